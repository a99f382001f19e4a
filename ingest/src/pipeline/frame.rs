//! What a durable frame of the log means: the rows it brought and what it rejected.
//!
//! The pipeline makes one of these beside every frame it appends, and hands it to the sinks once
//! the frame's lsn is durable. A sink that has fallen behind gets the same thing rebuilt from the
//! log: the payload decoded again and the frame's verdict applied, deciding nothing anew.

use std::sync::Arc;

use bytes::Bytes;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::row::Row;
use loushan_schemas::time::ReceiveTime;

/// One publish, decided and durable.
#[derive(Debug, Clone, PartialEq)]
pub struct DurableFrame {
    /// Its log sequence number. Frames reach a sink in rising order, with gaps.
    pub lsn: u64,
    /// When we received it.
    pub received: ReceiveTime,
    /// The topic it was published to.
    pub topic: Arc<str>,
    /// The payload as received.
    pub payload: Bytes,
    /// The accepted readings, in the order of the batch.
    pub rows: Vec<Row>,
    /// What was rejected: the whole publish, or single readings of it. It goes to the dead letter.
    pub rejects: Vec<Reject>,
    /// Readings of it that were stored before.
    pub duplicates: u32,
}

/// One entry of the dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// Which reading of the batch; `None` for the whole publish.
    pub reading: Option<u32>,
}

impl DurableFrame {
    /// About how many bytes of memory it holds, for the bounds of queues.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.topic.len()
            + self.payload.len()
            + self.rows.len() * size_of::<Row>()
            + self.rejects.len() * size_of::<Reject>()
    }
}
