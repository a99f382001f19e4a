//! `/api/v1/pipeline`: what every stage does, holds and rejects.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use loushan_schemas::label;
use loushan_schemas::reject::RejectReason;
use serde_json::{Value, json};

use super::App;
use super::api::{ask, sink};
use super::auth::Reader;
use super::devices::labelled;
use super::error::ApiError;
use super::params::Params;
use super::stations::hex;
use super::view::View;
use crate::live::{Example, Scope};

/// What is held somewhere, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// What it is called.
    pub name: &'static str,
    /// What it holds.
    pub bytes: u64,
    /// What it may hold.
    pub bound: u64,
    /// The key that bounds it.
    pub key: &'static str,
}

/// What the service holds inside, beyond its books.
#[derive(Debug, Clone, Default)]
pub struct Inside {
    /// Everything that is bounded in bytes.
    pub queues: Vec<Queue>,
    /// Publishes that came again, byte for byte.
    pub redelivered_batches: u64,
    /// Publishes with an earlier one's name and other bytes.
    pub seq_reuse: u64,
    /// Accepted publishes with unknown fields.
    pub unknown_fields: u64,
    /// Publishes that wait for their sync.
    pub tickets_waiting: usize,
    /// Publishes that wait for an answer of the store.
    pub lookups_waiting: usize,
    /// Readings rejected since the start, by reason.
    pub rejected: Vec<(RejectReason, u64)>,
    /// The dead letter's files and their bytes…
    pub dead_letter: (u64, u64),
    /// …and their bound.
    pub dead_letter_bound: u64,
    /// The log's segments: first and last lsn, bytes used and reserved.
    pub segments: Vec<(u64, u64, u64, u64)>,
    /// Syncs, frames and failed syncs of the log since the start.
    pub log_work: (u64, u64, u64),
    /// What an acknowledgement is worth.
    pub sync_policy: &'static str,
}

/// `GET /api/v1/pipeline`.
pub(super) async fn get(
    State(app): State<App>,
    _: Reader,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let none = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "there is no pipeline here");
    ask(&app, |view| Ok(whole(view))).await?.map(Json).ok_or_else(none)
}

fn whole(view: &dyn View) -> Option<Value> {
    let (inside, live) = (view.inside()?, view.live()?);
    let books = view.conservation();
    let tick = live.tick();
    let figures = tick.figures(&Scope::City);
    let examples = live.examples();
    let (syncs, frames, failures) = inside.log_work;
    let segments: Vec<Value> = inside
        .segments
        .iter()
        .map(|(first, last, used, size)| {
            json!({
                "first_lsn": first, "last_lsn": last, "used_bytes": used, "size_bytes": size,
            })
        })
        .collect();
    let queues: Vec<Value> = inside.queues.iter().map(|queue| {
        json!({
            "queue": queue.name, "bytes": queue.bytes, "bound_bytes": queue.bound, "key": queue.key,
        })
    }).collect();
    Some(json!({
        "at_ms": tick.at_ms,
        "stages": stages(&figures, books.sinks.iter().map(|sink| &*sink.name)),
        "queues": queues,
        "counts": {
            "redelivered_batches": inside.redelivered_batches,
            "seq_reuse": inside.seq_reuse,
            "unknown_fields": inside.unknown_fields,
            "tickets_waiting": inside.tickets_waiting,
            "lookups_waiting": inside.lookups_waiting,
        },
        "rejects": rejects(&inside.rejected, &examples),
        "dead_letters": {
            "files": inside.dead_letter.0,
            "bytes": inside.dead_letter.1,
            "bound_bytes": inside.dead_letter_bound,
            "export": "/api/v1/dead-letters/export",
        },
        "sinks": books.sinks.iter().map(sink).collect::<Vec<_>>(),
        "log": {
            "segments": segments,
            "stats": figures.get("log"),
            "syncs": syncs,
            "frames": frames,
            "failures": failures,
            "sync_policy": inside.sync_policy,
        },
    }))
}

/// What goes through each stage, a second.
fn stages<'a>(figures: &Value, sinks: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let rate = |name: &str| figures.get("rates").and_then(|rates| rates.get(name));
    let stage = |stage: &str, name: &str, unit: &str| json!({ "stage": stage, "rate": rate(name), "unit": unit });
    let mut stages = vec![
        stage("broker", "publishes", "publishes/s"),
        stage("decode", "received", "readings/s"),
        stage("decide", "accepted", "readings/s"),
        stage("log", "publishes", "frames/s"),
    ];
    for sink in sinks {
        // The others are watched by how far they are behind, not by how fast they go.
        let rate = if sink == "embedded" { rate("stored") } else { None };
        stages.push(json!({ "stage": format!("sink {sink}"), "rate": rate, "unit": "readings/s" }));
    }
    stages
}

/// All reasons, those that occurred first, each with its latest examples.
fn rejects(rejected: &[(RejectReason, u64)], examples: &[Example]) -> Vec<Value> {
    let mut rejected = rejected.to_vec();
    rejected.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
    let of = |reason: RejectReason| {
        examples.iter().filter(move |it| it.reason == reason).map(|example| {
            json!({
                "at_ms": example.at_ms,
                "station": station_of(&example.topic),
                "topic": &*example.topic,
                "lsn": example.lsn,
                "reading": example.reading,
                "payload_hex": hex(&example.head),
                "bytes": example.bytes,
            })
        })
    };
    rejected
        .iter()
        .map(|(reason, count)| {
            json!({
                "reason": reason.as_str(),
                "count": count,
                "label": labelled(label::reject(reason.as_str())),
                "examples": of(*reason).collect::<Vec<_>>(),
            })
        })
        .collect()
}

/// Whose topic it is, if it is one of ours.
fn station_of(topic: &str) -> Option<String> {
    let topic = loushan_schemas::topic::Topic::parse(topic).ok()?;
    Some(topic.station.as_str().to_owned())
}
