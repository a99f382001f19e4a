//! The figures of the service: one list of them, the recorder that gathers them, and those that are
//! looked up at each scrape rather than counted.
//!
//! Whatever is emitted anywhere, the broker included, is in [`GROUPS`], with its type, unit, labels and
//! meaning: descriptions, bounds of histograms and `docs/metrics.md` follow from it. Everything whose
//! labels are known beforehand is there from the start, at zero: a rate over a counter that only
//! appears with its first event would miss that event.
//!
//! Tests hold the list against the sources and against what a running service exports.

use std::sync::OnceLock;

use ::metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

mod document;
mod list;
mod process;
mod record;

pub use document::document;
pub use list::GROUPS;
pub(crate) use record::{limits, publish};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Type {
    /// Only rises; ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution over these upper bounds.
    Histogram(&'static [f64]),
}

impl Type {
    /// Prometheus's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// A label.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub values: Values,
}

/// What a label's values are: always a closed list, or what the configuration names.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// These.
    Are(&'static [&'static str]),
    /// Those of a closed list that stands elsewhere.
    Of(fn() -> Vec<&'static str>),
    /// What these words describe.
    Named(&'static str),
}

impl Values {
    /// All values, where they are known beforehand.
    #[must_use]
    pub fn known(self) -> Option<Vec<&'static str>> {
        match self {
            Self::Are(values) => Some(values.to_vec()),
            Self::Of(values) => Some(values()),
            Self::Named(_) => None,
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Type,
    /// What is counted or measured: `bytes`, `seconds`, `readings`.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [Label],
    /// What it says, in a sentence. Exported with it.
    pub help: &'static str,
    /// What it means to whoever runs the service, where the sentence does not say it all.
    pub meaning: &'static str,
    /// The key of the configuration that bounds it.
    pub bound: Option<&'static str>,
    /// When to be told, as an expression of Prometheus.
    pub alert: Option<&'static str>,
    /// When it is exported, if not always.
    pub only: Option<&'static str>,
}

/// Metrics of one part of the service.
#[derive(Debug)]
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// The metrics.
    pub metrics: &'static [Metric],
}

/// All metrics there are.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    GROUPS.iter().flat_map(|group| group.metrics)
}

/// The process's recorder. There can be one only, whoever asks first installs it.
pub fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = builder().build_recorder();
            let handle = recorder.handle();
            // Somebody else's recorder may be there already, in a test; this one then stays empty.
            if ::metrics::set_global_recorder(recorder).is_ok() {
                prepare();
            }
            handle
        })
        .clone()
}

fn builder() -> PrometheusBuilder {
    let buckets = all().filter_map(|metric| match metric.kind {
        Type::Histogram(bounds) => Some((metric.name, bounds)),
        _ => None,
    });
    buckets.fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        // Fails for an empty list of bounds only.
        builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
            .unwrap_or_else(|_empty| PrometheusBuilder::new())
    })
}

/// Describes every metric, and makes those at zero whose labels are known.
fn prepare() {
    for metric in all() {
        match metric.kind {
            Type::Counter => describe_counter!(metric.name, metric.help),
            Type::Gauge => describe_gauge!(metric.name, metric.help),
            Type::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
        if metric.only.is_some() {
            continue;
        }
        match metric.labels {
            [] => make(metric, &[]),
            [label] => label.values.known().iter().flatten().for_each(|value| {
                make(metric, &[(label.name, *value)]);
            }),
            // None has several that are all known.
            _ => {}
        }
    }
}

fn make(metric: &Metric, labels: &[(&'static str, &'static str)]) {
    match metric.kind {
        Type::Counter => drop::<Counter>(counter!(metric.name, labels)),
        Type::Gauge => drop::<Gauge>(gauge!(metric.name, labels)),
        Type::Histogram(_) => drop::<Histogram>(histogram!(metric.name, labels)),
    }
}

#[cfg(test)]
mod tests;
