//! Where a station publishes.

use bytes::Bytes;
use loushan_schemas::topic::{Channel, Topic};

use crate::station::Station;

/// A station's topics, formatted once; a tape's messages have their own.
#[derive(Default)]
pub(super) struct Topics(Vec<(Channel, Bytes)>);

impl Topics {
    pub(super) fn of(station: &Station) -> Self {
        Self(Channel::ALL.map(|channel| (channel, topic(station, channel).into())).into())
    }

    pub(super) fn of_channel(&self, channel: Channel) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.0.iter().find(|(c, _)| *c == channel).map_or(&NONE, |(_, topic)| topic)
    }
}

/// The topic of a station's channel.
pub(crate) fn topic(station: &Station, channel: Channel) -> String {
    let (region, name) = (station.plan.region.clone(), station.plan.station.clone());
    Topic { region, station: name, channel }.to_string()
}
