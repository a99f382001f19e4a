//! The protobuf wire format, as far as is needed to look at a message before prost decodes it.
//!
//! Accepts what prost accepts, less groups (obsolete before v1 was written) and less what is over a
//! limit. Allocates nothing, and ends after one pass over the bytes: messages nest as deep as the
//! tables below do, which is three.

use loushan_schemas::limits::{HISTORY_DELTAS, LIST_ENTRIES, RAW_BODY_BYTES, TEXT_BYTES};
use loushan_schemas::reject::RejectReason;

/// A field's value as it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, one by one; it ends behind the first that is broken.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if first < 0x80 { Some(u64::from(first)) } else { self.long_varint(first) }
    }

    fn long_varint(&mut self, first: u8) -> Option<u64> {
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            // The tenth byte holds the 64th bit and nothing else.
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
    }

    #[inline]
    fn field(&mut self) -> Option<(u32, Wire<'a>)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let number = key >> 3;
        if number == 0 {
            return None;
        }
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let (bytes, rest) = self.rest.split_first_chunk()?;
                self.rest = rest;
                Wire::Fixed64(u64::from_le_bytes(*bytes))
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            5 => {
                let (bytes, rest) = self.rest.split_first_chunk()?;
                self.rest = rest;
                Wire::Fixed32(u32::from_le_bytes(*bytes))
            }
            // Groups, and two types that never were.
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), RejectReason>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(RejectReason::Undecodable))
    }
}

/// What a known field looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Varint,
    Fixed32,
    Fixed64,
    /// UTF-8 of at most so many bytes.
    Text(usize),
    /// At most so many bytes.
    Blob(usize),
    Message(Shapes),
    /// Varints, packed or one by one; the lists of a reading that count together, and how many
    /// entries they may have.
    List(List, usize),
}

/// A message's known fields: the one with number n stands at n − 1.
pub(super) type Shapes = &'static [Shape];

/// Lists whose entries are counted together, so that a body sent in two halves (which protobuf
/// joins) is held to the same limit.
#[derive(Debug, Clone, Copy)]
pub(super) enum List {
    Enum,
    Delta,
}

/// Entries counted so far.
#[derive(Debug, Default)]
pub(super) struct Lists {
    enums: usize,
    deltas: usize,
}

impl Lists {
    fn add(&mut self, list: List, entries: usize, limit: usize) -> Result<(), RejectReason> {
        let count = match list {
            List::Enum => &mut self.enums,
            List::Delta => &mut self.deltas,
        };
        *count = count.saturating_add(entries);
        if *count > limit { Err(RejectReason::NestedTooLarge) } else { Ok(()) }
    }
}

/// What a pass over a message found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Bit n − 1 is set when known field n occurs.
    known: u32,
    /// Fields this build does not know, in the message itself.
    pub(super) unknown_here: bool,
    /// The same, in messages inside it.
    pub(super) unknown_below: bool,
}

impl Found {
    /// Whether any of these known fields occurs.
    pub(super) fn has_any(&self, fields: u32) -> bool {
        self.known & fields != 0
    }
}

/// Looks at a message and everything in it.
///
/// # Errors
/// What is not the wire format, a known field in another form than its own, or one over its limit.
pub(super) fn check(
    shapes: Shapes,
    message: &[u8],
    lists: &mut Lists,
) -> Result<Found, RejectReason> {
    let mut found = Found::default();
    for field in Fields::of(message) {
        let (number, value) = field?;
        let index = number - 1; // a field's number is never 0
        let Some(shape) = usize::try_from(index).ok().and_then(|i| shapes.get(i)) else {
            found.unknown_here = true;
            continue;
        };
        found.known |= 1 << index; // no message here has more than 32 fields (a test)
        match (*shape, value) {
            (Shape::Varint, Wire::Varint(_))
            | (Shape::Fixed32, Wire::Fixed32(_))
            | (Shape::Fixed64, Wire::Fixed64(_)) => {}
            (Shape::Text(limit), Wire::Bytes(bytes)) => {
                if bytes.len() > limit {
                    return Err(RejectReason::NestedTooLarge);
                }
                std::str::from_utf8(bytes).map_err(|_| RejectReason::Undecodable)?;
            }
            (Shape::Blob(limit), Wire::Bytes(bytes)) => {
                if bytes.len() > limit {
                    return Err(RejectReason::NestedTooLarge);
                }
            }
            (Shape::Message(inner), Wire::Bytes(bytes)) => {
                let inner = check(inner, bytes, lists)?;
                found.unknown_below |= inner.unknown_here || inner.unknown_below;
            }
            (Shape::List(list, limit), Wire::Varint(_)) => lists.add(list, 1, limit)?,
            (Shape::List(list, limit), Wire::Bytes(packed)) => {
                // Each varint has one byte without the continuation bit.
                let entries = packed.iter().filter(|byte| **byte < 0x80).count();
                lists.add(list, entries, limit)?;
                check_packed(packed)?;
            }
            _ => return Err(RejectReason::Undecodable),
        }
    }
    Ok(found)
}

fn check_packed(packed: &[u8]) -> Result<(), RejectReason> {
    let mut varints = Fields::of(packed);
    while !varints.rest.is_empty() {
        varints.varint().ok_or(RejectReason::Undecodable)?;
    }
    Ok(())
}

use Shape::{Blob, Fixed32, Fixed64, Text, Varint};
const ENUMS: Shape = Shape::List(List::Enum, LIST_ENTRIES);

const RADIO: Shapes = &[Varint; 8];
const POWER: Shapes = &[Varint; 2];
const PARKING: Shapes = &[Varint; 11];
const STREET_LIGHT: Shapes = &[
    Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, ENUMS,
];
const SMOKE: Shapes = &[Varint; 8];
const ELEVATOR: Shapes = &[
    Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint,
    ENUMS, Varint, Varint,
];
const WATER: Shapes =
    &[Varint, Varint, Varint, Varint, Varint, Varint, ENUMS, Shape::Message(HISTORY)];
const HISTORY: Shapes = &[Varint, Varint, Shape::List(List::Delta, HISTORY_DELTAS)];

/// `Reading`.
pub(super) const READING: Shapes = &[
    Fixed64,
    Varint,
    Varint,
    Varint,
    Varint,
    Varint,
    Shape::Message(RADIO),
    Shape::Message(POWER),
    Varint,
    Shape::Message(PARKING),
    Shape::Message(STREET_LIGHT),
    Shape::Message(SMOKE),
    Shape::Message(ELEVATOR),
    Shape::Message(WATER),
    Blob(RAW_BODY_BYTES),
    Varint,
];
/// Fields 10 to 15 of `Reading`, of which one is its body.
pub(super) const READING_BODIES: u32 = 0b11_1111 << 9;
/// Field 15 of `Reading`.
pub(super) const READING_RAW: u32 = 1 << 14;

/// `StationStatus`.
pub(super) const STATION_STATUS: Shapes = &[
    Fixed32, Varint, Fixed64, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint,
    Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint, Varint,
    Varint, Varint,
];
/// `StationState`.
pub(super) const STATION_STATE: Shapes = &[Fixed32, Varint, Fixed64, Varint, Text(TEXT_BYTES)];
/// `CommandResult`.
pub(super) const COMMAND_RESULT: Shapes =
    &[Fixed64, Fixed64, Varint, Text(TEXT_BYTES), Fixed64, Fixed32, Varint, Varint];
