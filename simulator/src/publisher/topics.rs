//! Where a station publishes.

use loushan_schemas::topic::{Channel, Topic};

use crate::station::Station;

/// A station's topics, formatted once.
pub(super) struct Topics(Vec<(Channel, String)>);

impl Topics {
    pub(super) fn of(station: &Station) -> Self {
        Self(Channel::ALL.map(|channel| (channel, topic(station, channel))).into())
    }

    pub(super) fn of_channel(&self, channel: Channel) -> &str {
        self.0.iter().find(|(c, _)| *c == channel).map_or("", |(_, topic)| topic.as_str())
    }
}

/// The topic of a station's channel.
pub(crate) fn topic(station: &Station, channel: Channel) -> String {
    let (region, name) = (station.plan.region.clone(), station.plan.station.clone());
    Topic { region, station: name, channel }.to_string()
}
