//! The newest reading of each device, of the registry or, where there is none, of the store.

use std::ops::ControlFlow;
use std::sync::Arc;

use loushan_schemas::row::Row;

use super::{AskError, Place};
use crate::sink::embedded::{Bounds, Which};

/// Hands over the newest reading of each device that is among them, by device, until `each` breaks
/// off. Returns up to which lsn that reaches.
pub(super) fn each(
    place: &Place,
    which: &Which,
    bounds: &Bounds,
    each: &mut dyn FnMut(Arc<Row>) -> ControlFlow<()>,
) -> Result<u64, AskError> {
    let Some(registry) = &place.registry else {
        return Ok(place.store.latest_of_all(which, bounds, &mut |row| each(Arc::new(row)))?);
    };
    let as_of_lsn = place.store.as_of_lsn();
    let wanted = |row: &Row| {
        which.kind.is_none_or(|kind| row.reading.kind() == kind)
            && which.device.is_none_or(|device| row.reading.imei == Some(device))
            && which.is_of(row.station.as_str())
    };
    let mut last = as_of_lsn;
    let mut stopped = Ok(());
    registry.each_latest(&wanted, &mut |row| {
        last = last.max(row.lsn);
        stopped = bounds.stop.check();
        if stopped.is_err() { ControlFlow::Break(()) } else { each(row) }
    });
    stopped?;
    Ok(last)
}
