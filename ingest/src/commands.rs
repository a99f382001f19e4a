//! Commands down to stations, and what became of them.
//!
//! A command is published to its station's `/d` at QoS 1. It is on disk before it is answered for, and
//! is kept until the station's own session has acknowledged it or it has expired: across restarts of
//! ours, across clean starts of the station, and also when the station never connected before. The
//! station may get it twice, and knows it by its id. What it answers on `u/r` is durable in the log, and
//! noted beside the command when the pipeline has taken it in.
//!
//! A station that is neither registered nor was ever heard of is refused: its region is not known, so
//! there is no topic to publish to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use loushan_broker::Broker;
use loushan_broker::parcel::{Parcel, SendError, State};
use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::pb;
use loushan_schemas::topic::{Channel, Topic};
use prost::Message as _;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::registry::Registry;

/// Bytes kept of what a station has to say about a command.
const DETAIL_BYTES: usize = 1024;

/// Ids that a JSON number holds in every language.
const ID_MASK: u64 = (1 << 53) - 1;

/// A command to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id, if its sender has one for it: sending the same again does nothing.
    pub id: Option<u64>,
    /// The device, or `None` for the station itself.
    pub imei: Option<Imei>,
    /// What is to be done.
    pub name: String,
    /// With what.
    pub arguments: Bytes,
    /// How long it is of use.
    pub expiry: Duration,
    /// How long to wait for the station's acknowledgement.
    pub wait: Duration,
}

/// Why a command was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nobody knows where the station is.
    #[error("station {0} is neither registered nor was it ever heard of")]
    UnknownStation(StationId),
    /// The id is another command's.
    #[error("command {0} is another one")]
    OtherCommand(u64),
    /// Too many wait for the station already.
    #[error("as many commands wait for station {0} as may")]
    TooMany(StationId),
    /// Too many wait for all stations.
    #[error("the commands that wait for stations use all the room that there is for them")]
    Full,
    /// The disk refuses. Whether the command will reach its station is not known.
    #[error("the command could not be made durable")]
    NotDurable,
}

/// The way down.
#[derive(Clone)]
pub struct Commands {
    broker: Arc<Broker>,
    registry: Arc<Registry>,
    clock: Clock,
    last_id: Arc<AtomicU64>,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

impl Commands {
    /// Commands by `broker`, to the stations that `registry` knows; it tells what stations answer.
    #[must_use]
    pub fn new(broker: Arc<Broker>, registry: Arc<Registry>, clock: Clock) -> Self {
        let told = Arc::clone(&broker);
        registry.tell_results(move |station, mut result| {
            let detail: String = result.detail.chars().take(DETAIL_BYTES / 4).collect();
            result.detail = detail;
            let id = result.command_id;
            if !told.answer_parcel(station.as_str(), id, result.encode_to_vec().into()) {
                tracing::debug!(%station, id, "a result of a command that is not remembered");
            }
        });
        Self { broker, registry, clock, last_id: Arc::default() }
    }

    /// Sends a command, and says what became of it within its `wait`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn send(&self, station: &StationId, order: Order) -> Result<Value, CommandError> {
        let known = self.registry.station(station);
        let region = known.ok_or_else(|| CommandError::UnknownStation(station.clone()))?.region;
        let sent_ms = self.now_ms();
        let id = order.id.unwrap_or_else(|| self.new_id(sent_ms));
        let expiry_ms = u64::try_from(order.expiry.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = sent_ms.saturating_add(expiry_ms);
        let command = pb::Command {
            command_id: id,
            imei: order.imei.map_or(0, Imei::get),
            name: order.name,
            arguments: order.arguments,
            expires_ms,
        };
        let topic = Topic { region, station: station.clone(), channel: Channel::Command };
        let parcel = Parcel {
            id,
            client: station.as_str().into(),
            topic: topic.to_string().into(),
            payload: command.encode_to_vec().into(),
            sent_ms,
            expires_ms,
            state: State::Waiting,
            answer: None,
        };
        match self.broker.send(parcel).await {
            Ok(()) => {}
            Err(SendError::Known(known)) if is_same(&known, station, &command) => {}
            Err(SendError::Known(_)) => return Err(CommandError::OtherCommand(id)),
            Err(SendError::Waiting(_)) => return Err(CommandError::TooMany(station.clone())),
            Err(SendError::Full) => return Err(CommandError::Full),
            Err(SendError::NotDurable) => return Err(CommandError::NotDurable),
        }
        let decided = self.broker.parcel_when(id, |parcel| !matches!(parcel.state, State::Waiting));
        let parcel = match tokio::time::timeout(order.wait, decided).await {
            Ok(parcel) => parcel,
            Err(_) => self.broker.parcel(id),
        };
        // Remembered for a day from here on.
        parcel.as_ref().map(describe).ok_or(CommandError::NotDurable)
    }

    /// What became of a command, as long as it is remembered.
    #[must_use]
    pub fn get(&self, station: &StationId, id: u64) -> Option<Value> {
        let parcel = self.broker.parcel(id)?;
        (*parcel.client == *station.as_str()).then(|| describe(&parcel))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().ms()).unwrap_or(0)
    }

    /// An id that rises with time, also across restarts.
    fn new_id(&self, now_ms: u64) -> u64 {
        let by_time = now_ms.wrapping_shl(8) & ID_MASK;
        let next = |last: u64| Some(by_time.max(last + 1));
        match self.last_id.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(last) | Err(last) => by_time.max(last + 1),
        }
    }
}

fn is_same(known: &Parcel, station: &StationId, command: &pb::Command) -> bool {
    let sent = pb::Command::decode(known.payload.clone()).unwrap_or_default();
    *known.client == *station.as_str()
        && (sent.imei, &sent.name, &sent.arguments)
            == (command.imei, &command.name, &command.arguments)
}

fn describe(parcel: &Parcel) -> Value {
    let command = pb::Command::decode(parcel.payload.clone()).unwrap_or_default();
    let (state, delivered_ms) = match parcel.state {
        State::Waiting => ("queued", None),
        State::Delivered { at_ms } => ("delivered", Some(at_ms)),
        State::Expired => ("expired", None),
    };
    let result = parcel.answer.clone().and_then(|bytes| pb::CommandResult::decode(bytes).ok());
    json!({
        "id": parcel.id,
        "station": &*parcel.client,
        "imei": (command.imei != 0).then(|| command.imei.to_string()),
        "name": command.name,
        "state": state,
        "sent_ms": parcel.sent_ms,
        "expires_ms": parcel.expires_ms,
        "delivered_ms": delivered_ms,
        "result": result.map(|result| json!({
            "outcome": outcome(result.outcome()),
            "detail": result.detail,
            "time_ms": result.time_ms,
        })),
    })
}

const fn outcome(outcome: pb::command_result::Outcome) -> &'static str {
    use pb::command_result::Outcome;
    match outcome {
        Outcome::Unspecified => "unspecified",
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Expired => "expired",
        Outcome::Unreachable => "unreachable",
    }
}
