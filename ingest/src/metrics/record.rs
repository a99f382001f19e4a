//! Figures that are looked up when somebody is about to read them.

use std::sync::Arc;

use ::metrics::{counter, gauge};

use crate::config::Limit;
use crate::http::view::Conservation;
use crate::readiness::{Component, Readiness};
use crate::sink::{SinkFigures, SinkState};

/// The bounds of the configuration, which do not change while the service runs.
pub(crate) fn limits(limits: &[Limit]) {
    gauge!("loushan_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for limit in limits {
        let label = [("key", Arc::clone(&limit.key))];
        if limit.bytes {
            gauge!("loushan_limit_bytes", &label).set(float(limit.value));
        } else {
            gauge!("loushan_limit", &label).set(float(limit.value));
        }
    }
}

/// Brings the sinks' figures and readiness up to date. The process's books are the pipeline's.
pub(crate) fn publish(books: &Conservation, readiness: &Readiness) {
    gauge!("loushan_durable_lsn").set(float(books.durable_lsn));
    gauge!("loushan_ready").set(flag(readiness.is_ready()));
    let mut durable = true;
    for component in Component::ALL {
        let condition = readiness.conditions().find(|(other, _)| *other == component);
        let level = condition.map_or(0, |(_, condition)| if condition.red { 2 } else { 1 });
        gauge!("loushan_component_condition", "component" => component.as_str())
            .set(f64::from(level));
        durable &= component != Component::Durability || level == 0;
    }
    gauge!("loushan_not_durable").set(flag(!durable));
    books.sinks.iter().for_each(publish_sink);
    super::process::record();
}

fn publish_sink(sink: &SinkFigures) {
    let label = [("sink", Arc::clone(&sink.name))];
    counter!("loushan_sink_fed_readings_total", &label).absolute(sink.fed);
    counter!("loushan_sink_stored_readings_total", &label).absolute(sink.stored);
    counter!("loushan_sink_replayed_readings_total", &label).absolute(sink.replayed);
    counter!("loushan_sink_refused_readings_total", &label).absolute(sink.refused);
    counter!("loushan_sink_let_go_readings_total", &label).absolute(sink.let_go);
    counter!("loushan_sink_rewound_readings_total", &label).absolute(sink.rewound);
    counter!("loushan_sink_returned_readings_total", &label).absolute(sink.returned);
    gauge!("loushan_sink_pending_readings", &label).set(float(sink.pending));
    gauge!("loushan_sink_residue_readings", &label).set(signed(sink.residue()));
    gauge!("loushan_sink_cursor_lsn", &label).set(float(sink.cursor));
    gauge!("loushan_sink_position_lsn", &label).set(float(sink.position));
    gauge!("loushan_sink_lag_frames", &label).set(float(sink.lag.frames));
    gauge!("loushan_sink_lag_bytes", &label).set(float(sink.lag.bytes));
    gauge!("loushan_sink_lag_seconds", &label).set(sink.lag.seconds);
    gauge!("loushan_sink_trouble", &label).set(flag(sink.trouble.is_some()));
    gauge!("loushan_sink_running", &label).set(flag(sink.state == SinkState::Running));
}

// Gauges are floats: exact up to 2^53, which no figure of ours reaches.
#[allow(clippy::cast_precision_loss)]
fn float(n: u64) -> f64 {
    n as f64
}

#[allow(clippy::cast_precision_loss)]
fn signed(n: i64) -> f64 {
    n as f64
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}
