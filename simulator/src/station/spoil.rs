//! Payloads that are wrong on purpose, each in a way that no reader can take for right.

use std::sync::Arc;

use bytes::Bytes;
use loushan_schemas::limits::{PAYLOAD_BYTES, SCHEMA_MAJOR};
use loushan_schemas::pb;
use prost::Message as _;

use super::batch::Batch;
use crate::fault::{Fault, FaultCounts};
use crate::seed::Rng;

/// A field number that the schema does not use, as a length-delimited field's tag: 15 and type 2.
const PADDING_TAG: u8 = (15 << 3) | 2;

/// A batch's copy, spoiled, to be sent later.
pub(super) fn spoiled(batch: &Batch, fault: Fault, due: i64, rng: &mut Rng) -> Option<Batch> {
    let payload = payload(&batch.payload, fault, rng)?;
    let mut faults: FaultCounts = [0; Fault::COUNT];
    *faults.get_mut(fault as usize)? = 1;
    Some(Batch {
        due,
        payload: payload.into(),
        meant: Arc::from([]),
        faults,
        ledger_id: Arc::default(),
        ..batch.clone()
    })
}

fn payload(good: &Bytes, fault: Fault, rng: &mut Rng) -> Option<Vec<u8>> {
    let mut bytes = good.to_vec();
    match fault {
        // Wire type 7 does not exist, so the first field cannot be read, whatever follows.
        Fault::Corrupt => {
            *bytes.first_mut()? |= 7;
            for _ in 0..4 {
                let place = 1 + usize::try_from(rng.below(bytes.len() as u64 - 1)).ok()?;
                *bytes.get_mut(place)? ^= 0x55;
            }
        }
        // Readings come last and are longer than this: the cut lies within one.
        Fault::Truncated => {
            let cut = 1 + usize::try_from(rng.below(8)).ok()?;
            bytes.truncate(bytes.len().checked_sub(cut)?);
        }
        Fault::Oversized => {
            // A field that a reader would skip, if it were allowed to be this long.
            bytes.push(PADDING_TAG);
            prost::encode_length_delimiter(PAYLOAD_BYTES, &mut bytes).ok()?;
            bytes.resize(bytes.len() + PAYLOAD_BYTES, 0);
        }
        Fault::NewerSchema | Fault::WrongStation => {
            let mut batch = pb::UplinkBatch::decode(good.clone()).ok()?;
            if fault == Fault::NewerSchema {
                batch.schema_major = SCHEMA_MAJOR + 1;
            } else {
                batch.station = format!("{}x", batch.station);
            }
            bytes = batch.encode_to_vec();
        }
        _ => return None,
    }
    Some(bytes)
}
