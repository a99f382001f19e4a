//! The list of all metrics, by the parts of the service.

mod alarms;
mod http;
mod log;
mod mqtt;
mod pipeline;
mod service;
mod sinks;
mod store;

use super::{Group, Label, Metric, Type, Values};
use crate::readiness::Component;
use crate::sink::dead_letter::Why;
use crate::sink::embedded::Table;

/// All metrics there are.
pub static GROUPS: &[Group] = &[
    Group { title: "The service", metrics: service::METRICS },
    Group { title: "Readings: the books", metrics: pipeline::BOOKS },
    Group { title: "Pipeline: queues and memory", metrics: pipeline::QUEUES },
    Group { title: "Write-ahead log and disk", metrics: log::METRICS },
    Group { title: "Sinks", metrics: sinks::METRICS },
    Group { title: "InfluxDB sinks", metrics: sinks::INFLUX },
    Group { title: "Embedded store", metrics: store::METRICS },
    Group { title: "Dead letter", metrics: store::DEAD_LETTER },
    Group { title: "Alarms", metrics: alarms::METRICS },
    Group { title: "Stations and devices", metrics: service::FLEET },
    Group { title: "Projects and the live feed", metrics: service::WATCHED },
    Group { title: "MQTT: connections", metrics: mqtt::CONNECTIONS },
    Group { title: "MQTT: publishes and acknowledgements", metrics: mqtt::PUBLISHES },
    Group { title: "MQTT: subscribers, sessions and commands", metrics: mqtt::SUBSCRIBERS },
    Group { title: "HTTP and questions", metrics: http::METRICS },
    Group { title: "The process", metrics: service::PROCESS },
];

/// From a sync on a fast disk to one that hangs.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

const SINK: Label = Label {
    name: "sink",
    values: Values::Named("`embedded`, `dead_letter`, `snapshot`, and those of the configuration"),
};
const SERVER: Label =
    Label { name: "sink", values: Values::Named("the configuration's InfluxDB sinks") };
const TABLE: Label = Label {
    name: "table",
    values: Values::Of(|| Table::ALL.iter().map(|table| table.as_str()).collect()),
};
const KIND: Label = Label {
    name: "kind",
    values: Values::Of(|| {
        loushan_schemas::kind::Kind::ALL.iter().map(|kind| kind.as_str()).collect()
    }),
};
const REJECTED: Label = Label {
    name: "reason",
    values: Values::Of(|| {
        loushan_schemas::reject::RejectReason::ALL.iter().map(|reason| reason.as_str()).collect()
    }),
};
const LETTER: Label = Label { name: "reason", values: Values::Of(Why::words) };
const COMPONENT: Label = Label {
    name: "component",
    values: Values::Of(|| Component::ALL.iter().map(|component| component.as_str()).collect()),
};

const fn label(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Are(values) }
}

const fn metric(name: &'static str, kind: Type, unit: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels: &[],
        help,
        meaning: "",
        bound: None,
        alert: None,
        only: None,
    }
}

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    metric(name, Type::Counter, unit, help)
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    metric(name, Type::Gauge, unit, help)
}

const fn seconds(name: &'static str, help: &'static str) -> Metric {
    metric(name, Type::Histogram(SECONDS), "seconds", help)
}

impl Metric {
    const fn by(self, labels: &'static [Label]) -> Self {
        Self { labels, ..self }
    }

    const fn means(self, meaning: &'static str) -> Self {
        Self { meaning, ..self }
    }

    const fn bounded(self, key: &'static str) -> Self {
        Self { bound: Some(key), ..self }
    }

    const fn alert(self, expression: &'static str) -> Self {
        Self { alert: Some(expression), ..self }
    }

    const fn only(self, when: &'static str) -> Self {
        Self { only: Some(when), ..self }
    }
}
