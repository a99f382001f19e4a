//! What a station does with a command: it says that it was done, or why not.

use std::collections::VecDeque;

use bytes::Bytes;
use loushan_schemas::limits::SCHEMA_MAJOR;
use loushan_schemas::pb;
use pb::command_result::Outcome;
use prost::Message as _;

use super::Station;

/// Commands whose ids are remembered: one that comes again was answered already.
const REMEMBERED: usize = 256;

/// The answers that a station gave.
#[derive(Debug, Default)]
pub(super) struct Answers {
    seq: u64,
    known: VecDeque<u64>,
}

impl Station {
    /// The answer to a command; `None` if it was answered, or is none. The simulated devices do
    /// whatever they are told.
    pub(crate) fn answer(&mut self, command: &Bytes, now_ms: i64) -> Option<Bytes> {
        let command = pb::Command::decode(command.clone()).ok()?;
        let Answers { seq, known } = &mut self.answers;
        if known.contains(&command.command_id) {
            return None;
        }
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back(command.command_id);
        let devices = &self.plan.devices;
        let is_here =
            command.imei == 0 || devices.iter().any(|device| device.imei.get() == command.imei);
        let (outcome, detail) = if command.expires_ms <= now_ms.unsigned_abs() {
            (Outcome::Expired, "it came too late")
        } else if is_here {
            (Outcome::Done, "")
        } else {
            (Outcome::Unreachable, "no such device is attached here")
        };
        let result = pb::CommandResult {
            command_id: command.command_id,
            imei: command.imei,
            outcome: outcome.into(),
            detail: detail.to_owned(),
            time_ms: now_ms.unsigned_abs(),
            session: self.session,
            seq: *seq,
            schema_major: SCHEMA_MAJOR,
        };
        *seq += 1;
        Some(result.encode_to_vec().into())
    }
}
