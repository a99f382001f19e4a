//! Batches on their way, decided in any order and given out in theirs.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::FutureExt as _;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::InfluxError;
use super::batch::Batch;
use super::delivery::{Courier, Delivered};

type Landed = (Batch, Result<Delivered, InfluxError>);

/// Batches whose delivery has begun and is not settled, oldest first.
#[derive(Default)]
pub(super) struct Flying {
    deliveries: FuturesOrdered<AbortOnDropHandle<Landed>>,
    notes: VecDeque<FlightNote>,
}

/// What is still to be known of a batch that was given away.
struct FlightNote {
    bytes: usize,
    readings: usize,
    since: Instant,
}

impl Flying {
    pub(super) fn start(&mut self, courier: &Arc<Courier>, batch: Batch) {
        let note =
            FlightNote { bytes: batch.memory_bytes(), readings: batch.len(), since: batch.since };
        self.notes.push_back(note);
        let courier = Arc::clone(courier);
        // A task, so that it goes on while another batch is being settled.
        self.deliveries.push_back(AbortOnDropHandle::new(tokio::spawn(async move {
            let delivered = courier.deliver(&batch).await;
            (batch, delivered)
        })));
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// When the oldest reading among them came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.notes.front().map(|note| note.since)
    }

    /// About how many bytes of memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.notes.iter().map(|note| note.bytes).sum()
    }

    /// How many readings they have.
    pub(super) fn readings(&self) -> usize {
        self.notes.iter().map(|note| note.readings).sum()
    }

    /// The oldest batches that are decided, at least one. Cancel-safe; never comes while nothing flies.
    pub(super) async fn landed(&mut self) -> Result<Vec<(Batch, Delivered)>, InfluxError> {
        if self.notes.is_empty() {
            std::future::pending::<()>().await;
        }
        let mut landed = Vec::new();
        let mut next = self.deliveries.next().await;
        while let Some(ended) = next {
            self.notes.pop_front();
            let (batch, delivered) = ended.map_err(|_| InfluxError::Interrupted)?;
            landed.push((batch, delivered?));
            next = self.deliveries.next().now_or_never().flatten();
        }
        Ok(landed)
    }
}
