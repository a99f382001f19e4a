//! Telling MQTT subscribers: `nb1/alarms/{region}/{station}/{device or "station"}/{alarm}`.
//!
//! * While an alarm lasts its JSON is retained there: who subscribes later has it at once.
//! * When it is cleared its JSON is published once more, not retained, with `"state":"cleared"`; then an
//!   empty payload ends what is retained.
//! * An acknowledgement is published like the alarm: retained while it lasts, not retained after that.
//!
//! At QoS 1. An event is told at least once: the place in the outbox is durable a moment later. After a
//! start what is retained is made what it should be, whatever a crash or a lost `broker/` folder left.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use loushan_broker::Broker;
use loushan_schemas::topic::ALARMS;
use tokio_util::sync::CancellationToken;

use super::book::MQTT;
use super::handle::Alarms;
use super::model::{Alarm, AlarmEvent, AlarmState};
use super::shelf::Filter;

/// The topic of an alarm.
#[must_use]
pub fn topic(alarm: &Alarm) -> String {
    let device = alarm.imei.map(|imei| imei.to_string());
    let device = device.as_deref().unwrap_or("station");
    let Alarm { region, station, rule, .. } = alarm;
    format!("{ALARMS}/{region}/{station}/{device}/{rule}")
}

fn payload(alarm: &Alarm) -> Bytes {
    alarm.to_json().to_string().into()
}

/// Makes what is retained what it should be, then tells of each event, until `stop`.
pub(super) async fn run(alarms: Alarms, broker: Arc<Broker>, stop: CancellationToken) {
    mend(&alarms, &broker);
    let outbox = alarms.outbox();
    let mut changed = outbox.watch();
    loop {
        changed.mark_unchanged();
        while let Some(event) = outbox.next(MQTT) {
            tell(&broker, &event);
            outbox.done(MQTT, event.number);
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

fn mend(alarms: &Alarms, broker: &Broker) {
    let filter =
        Filter { states: vec![AlarmState::Open, AlarmState::Acknowledged], ..Filter::default() };
    let lasting = alarms.list(&filter, usize::MAX, None).alarms;
    let mut wanted: HashMap<String, Bytes> =
        lasting.iter().map(|alarm| (topic(alarm), payload(alarm))).collect();
    for (topic, retained) in broker.retained(&format!("{ALARMS}/#")) {
        match wanted.remove(&*topic) {
            Some(payload) if payload == retained => {}
            Some(payload) => broker.publish(&topic, payload, true),
            None => broker.publish(&topic, Bytes::new(), true),
        }
    }
    for (topic, payload) in wanted {
        broker.publish(&topic, payload, true);
    }
}

fn tell(broker: &Broker, event: &AlarmEvent) {
    let alarm = &event.alarm;
    let (topic, lasts) = (topic(alarm), alarm.cleared.is_none());
    broker.publish(&topic, payload(alarm), lasts);
    if !lasts && event.change == super::Change::Cleared {
        broker.publish(&topic, Bytes::new(), true);
    }
}
