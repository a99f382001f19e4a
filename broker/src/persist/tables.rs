//! The tables of the database, read once and written by commits.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `"format"` | version of all of this |
//! | `retained` | topic | message |
//! | `sessions` | client id | session |
//! | `subscriptions` | session's number, filter | subscription |
//! | `queue` | session's number, message's number | delivery |
//! | `in_flight` | the same | packet id it was sent with |
//! | `parcels` | its place in the order of sending | parcel |
//! | `packet_ids` | session's number | packet ids below this one's number may have been used |

use std::sync::Arc;

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use super::codec::{
    self, CodecError, StoredDelivery, StoredInFlight, StoredMessage, StoredSession,
};
use super::pending::{Pending, SessionChanges};
use crate::parcel::Parcel;
use crate::subscriptions::Subscription;

/// Of tables and values; one that is not known is not opened.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
const SUBSCRIPTIONS: TableDefinition<'_, (u64, &str), &[u8]> =
    TableDefinition::new("subscriptions");
const QUEUE: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("queue");
const IN_FLIGHT: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("in_flight");
const PARCELS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("parcels");
const PACKET_IDS: TableDefinition<'_, u64, u64> = TableDefinition::new("packet_ids");

/// Everything that the database holds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) retained: Vec<StoredMessage>,
    pub(super) parcels: Vec<(u64, Parcel)>,
    pub(super) sessions: Vec<LoadedSession>,
}

/// A session with all that belongs to it.
#[derive(Debug)]
pub(super) struct LoadedSession {
    pub(super) client_id: Arc<str>,
    pub(super) record: StoredSession,
    pub(super) subscriptions: Vec<Subscription>,
    /// In the order of their numbers, which is that of their arrival.
    pub(super) queue: Vec<(u64, StoredDelivery)>,
    pub(super) in_flight: Vec<(u64, StoredInFlight)>,
    pub(super) ids_reserved: u64,
}

/// The database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Database(#[from] redb::Error),
    #[error("{table} {key}: {source}")]
    Value { table: &'static str, key: String, source: CodecError },
    #[error("its format is {found}, and this version knows {FORMAT}")]
    Format { found: u64 },
    #[error("it has no format: its beginning was never written")]
    NoFormat,
}

/// Names and makes all tables of a new database.
pub(super) fn begin(database: &Database) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    txn.open_table(META)?.insert("format", FORMAT)?;
    txn.open_table(RETAINED)?;
    txn.open_table(SESSIONS)?;
    txn.open_table(SUBSCRIPTIONS)?;
    txn.open_table(QUEUE)?;
    txn.open_table(IN_FLIGHT)?;
    txn.open_table(PARCELS)?;
    txn.open_table(PACKET_IDS)?;
    Ok(txn.commit()?)
}

/// Reads everything.
pub(super) fn load(database: &Database) -> Result<Loaded, ReadError> {
    let txn = database.begin_read().map_err(redb::Error::from)?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Err(ReadError::NoFormat),
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    let format = meta.get("format").map_err(redb::Error::from)?.ok_or(ReadError::NoFormat)?;
    if format.value() != FORMAT {
        return Err(ReadError::Format { found: format.value() });
    }
    let mut loaded = Loaded::default();
    for entry in entries(&txn, RETAINED)? {
        let (topic, value) = entry?;
        let message = codec::read_message(value.value())
            .map_err(|source| bad("retained", &topic.value(), source))?;
        loaded.retained.push(message);
    }
    let parcels = txn.open_table(PARCELS).map_err(redb::Error::from)?;
    for entry in parcels.range::<u64>(..).map_err(redb::Error::from)? {
        let (order, value) = entry.map_err(redb::Error::from)?;
        let parcel = codec::read_parcel(value.value())
            .map_err(|source| bad("parcels", &order.value(), source))?;
        loaded.parcels.push((order.value(), parcel));
    }
    for entry in entries(&txn, SESSIONS)? {
        let (client_id, value) = entry?;
        let client_id: Arc<str> = client_id.value().into();
        let record = codec::read_session(value.value())
            .map_err(|source| bad("sessions", &client_id, source))?;
        loaded.sessions.push(session(&txn, client_id, record)?);
    }
    Ok(loaded)
}

fn session(
    txn: &redb::ReadTransaction,
    client_id: Arc<str>,
    record: StoredSession,
) -> Result<LoadedSession, ReadError> {
    let number = record.number;
    let mut loaded = LoadedSession {
        client_id,
        record,
        subscriptions: Vec::new(),
        queue: Vec::new(),
        in_flight: Vec::new(),
        ids_reserved: 0,
    };
    let open = |e: redb::TableError| ReadError::from(redb::Error::from(e));
    let read = |e: redb::StorageError| ReadError::from(redb::Error::from(e));
    let table = txn.open_table(SUBSCRIPTIONS).map_err(open)?;
    for entry in table.range((number, "")..(number.saturating_add(1), "")).map_err(read)? {
        let (key, value) = entry.map_err(read)?;
        let (_, filter) = key.value();
        let subscription = codec::read_subscription(filter, value.value())
            .map_err(|source| bad("subscriptions", &key.value(), source))?;
        loaded.subscriptions.push(subscription);
    }
    let table = txn.open_table(QUEUE).map_err(open)?;
    for entry in table.range((number, 0)..=(number, u64::MAX)).map_err(read)? {
        let (key, value) = entry.map_err(read)?;
        let delivery = codec::read_delivery(value.value())
            .map_err(|source| bad("queue", &key.value(), source))?;
        loaded.queue.push((key.value().1, delivery));
    }
    let table = txn.open_table(IN_FLIGHT).map_err(open)?;
    for entry in table.range((number, 0)..=(number, u64::MAX)).map_err(read)? {
        let (key, value) = entry.map_err(read)?;
        let in_flight = codec::read_in_flight(value.value())
            .map_err(|source| bad("in_flight", &key.value(), source))?;
        loaded.in_flight.push((key.value().1, in_flight));
    }
    let table = txn.open_table(PACKET_IDS).map_err(open)?;
    loaded.ids_reserved = table.get(number).map_err(read)?.map_or(0, |value| value.value());
    Ok(loaded)
}

type Entry = (redb::AccessGuard<'static, &'static str>, redb::AccessGuard<'static, &'static [u8]>);

fn entries(
    txn: &redb::ReadTransaction,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
) -> Result<impl Iterator<Item = Result<Entry, ReadError>>, ReadError> {
    let table = txn.open_table(table).map_err(redb::Error::from)?;
    let range = table.range::<&str>(..).map_err(redb::Error::from)?;
    Ok(range.map(|entry| entry.map_err(|e| redb::Error::from(e).into())))
}

fn bad(table: &'static str, key: &impl std::fmt::Debug, source: CodecError) -> ReadError {
    let key: String = format!("{key:?}").chars().take(80).collect();
    ReadError::Value { table, key, source }
}

/// Writes a difference, all of it or nothing. Returns when it is on disk.
pub(super) fn write(database: &Database, pending: &Pending) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut table = txn.open_table(RETAINED)?;
        for (topic, message) in pending.retained.iter() {
            match message {
                Some(message) => table.insert(&**topic, &*codec::message(message))?,
                None => table.remove(&**topic)?,
            };
        }
    }
    if !pending.parcels.is_empty() {
        let mut table = txn.open_table(PARCELS)?;
        for (order, parcel) in pending.parcels.iter() {
            match parcel {
                Some(parcel) => table.insert(order, &*codec::parcel(parcel))?,
                None => table.remove(order)?,
            };
        }
    }
    // Those that end first: their client ids may have new sessions.
    for (number, changes) in pending.sessions.iter().filter(|(_, changes)| changes.ended) {
        remove(&txn, *number, changes)?;
    }
    for (number, changes) in pending.sessions.iter().filter(|(_, changes)| !changes.ended) {
        write_session(&txn, *number, changes)?;
    }
    Ok(txn.commit()?)
}

/// Removes everything of a session.
fn remove(
    txn: &WriteTransaction,
    number: u64,
    changes: &SessionChanges,
) -> Result<(), redb::Error> {
    let messages = (number, 0)..=(number, u64::MAX);
    if let Some(client_id) = &changes.client_id {
        let mut table = txn.open_table(SESSIONS)?;
        let own = table.get(&**client_id)?.is_some_and(|value| {
            codec::read_session(value.value()).is_ok_and(|record| record.number == number)
        });
        if own {
            table.remove(&**client_id)?;
        }
    }
    let mut table = txn.open_table(SUBSCRIPTIONS)?;
    table.retain_in((number, "")..(number.saturating_add(1), ""), |_, _| false)?;
    txn.open_table(QUEUE)?.retain_in(messages.clone(), |_, _| false)?;
    txn.open_table(IN_FLIGHT)?.retain_in(messages, |_, _| false)?;
    txn.open_table(PACKET_IDS)?.remove(number)?;
    Ok(())
}

fn write_session(
    txn: &WriteTransaction,
    number: u64,
    changes: &SessionChanges,
) -> Result<(), redb::Error> {
    if let (Some(client_id), Some(record)) = (&changes.client_id, &changes.record) {
        txn.open_table(SESSIONS)?.insert(&**client_id, &*codec::session(record))?;
    }
    if !changes.subscriptions.is_empty() {
        let mut table = txn.open_table(SUBSCRIPTIONS)?;
        for (filter, subscription) in changes.subscriptions.iter() {
            match subscription {
                Some(it) => table.insert((number, &**filter), &*codec::subscription(it))?,
                None => table.remove((number, &**filter))?,
            };
        }
    }
    if !changes.queue.is_empty() {
        let mut table = txn.open_table(QUEUE)?;
        for (message, delivery) in changes.queue.iter() {
            match delivery {
                Some(it) => table.insert((number, *message), &*codec::delivery(it))?,
                None => table.remove((number, *message))?,
            };
        }
    }
    if !changes.in_flight.is_empty() {
        let mut table = txn.open_table(IN_FLIGHT)?;
        for (message, in_flight) in changes.in_flight.iter() {
            match in_flight {
                Some(it) => table.insert((number, *message), &*codec::in_flight(*it))?,
                None => table.remove((number, *message))?,
            };
        }
    }
    if let Some(reserved) = changes.ids_reserved {
        txn.open_table(PACKET_IDS)?.insert(number, reserved)?;
    }
    Ok(())
}
