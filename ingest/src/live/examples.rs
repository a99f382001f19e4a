//! What was rejected last: a few of each reason, for whoever looks for the cause.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use loushan_schemas::reject::RejectReason;

use super::seen::head;
use crate::pipeline::frame::DurableFrame;

/// Kept of each reason: with [`head`]'s bytes, about 30 KiB of all.
const OF_EACH: usize = 5;

/// Something that was rejected.
#[derive(Debug, Clone)]
pub struct Example {
    /// Why.
    pub reason: RejectReason,
    /// When it came, in Unix milliseconds.
    pub at_ms: i64,
    /// Its place in the log.
    pub lsn: u64,
    /// Where it was published.
    pub topic: Arc<str>,
    /// Which reading of the batch; `None`: all of it.
    pub reading: Option<u32>,
    /// The beginning of its payload.
    pub head: Bytes,
    /// Bytes of the payload.
    pub bytes: usize,
}

/// The last ones of each reason.
#[derive(Debug, Default)]
pub(super) struct Examples(BTreeMap<RejectReason, VecDeque<Example>>);

impl Examples {
    /// Takes in what a frame rejects: of each reason the first, as one batch could fill all places.
    pub(super) fn note(&mut self, frame: &DurableFrame) {
        let mut told: Vec<RejectReason> = Vec::new();
        for reject in &frame.rejects {
            if told.contains(&reject.reason) {
                continue;
            }
            told.push(reject.reason);
            let kept = self.0.entry(reject.reason).or_default();
            if kept.len() >= OF_EACH {
                kept.pop_back();
            }
            kept.push_front(Example {
                reason: reject.reason,
                at_ms: frame.received.ms(),
                lsn: frame.lsn,
                // A topic may be as long as the broker allows.
                topic: frame.topic.chars().take(256).collect::<String>().into(),
                reading: reject.reading,
                head: head(&frame.payload),
                bytes: frame.payload.len(),
            });
        }
    }

    /// All, by reason, the newest first.
    pub(super) fn all(&self) -> Vec<Example> {
        self.0.values().flatten().cloned().collect()
    }
}
