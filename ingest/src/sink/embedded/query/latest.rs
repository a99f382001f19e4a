//! The newest reading of each device, out of the files: for a store that no service runs on, whose
//! registry would know it.
//!
//! Two passes: the first reads devices, times and lsns alone and remembers where each device's newest
//! reading is; the second reads those readings.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt64Type};
use loushan_schemas::row::Row;

use super::super::manifest::FileEntry;
use super::super::scan::Wanted;
use super::super::schema as col;
use super::super::{QueryError, Store, decode};
use super::as_stored;
use super::bounds::Bounds;
use super::page::Position;
use super::which::Which;

/// Rows of three columns decoded at once.
const BATCH_ROWS: usize = 16 * 1024;
/// Bytes of a device in the first pass, and of its reading in the second.
const PLACE_BYTES: usize = 64;
const ROW_BYTES: usize = size_of::<Row>() + 256;

/// Where a device's newest reading is.
#[derive(Debug, Clone, Copy)]
struct Newest {
    effective: i64,
    lsn: u64,
    file: u64,
}

impl Store {
    /// Hands over the newest of these readings of each device, by device, until `each` breaks off.
    /// Returns up to which lsn that reaches.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, or past the bounds.
    pub fn latest_of_all(
        &self,
        which: &Which,
        bounds: &Bounds,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<u64, QueryError> {
        let (view, as_of_lsn) = self.view_of(which.device);
        let mut budget =
            bounds.budget("ask for a station, a kind or a device, or raise query.memory");
        let files: Vec<&Arc<FileEntry>> =
            which.days(&view.files).into_values().flatten().filter(|f| f.imei.is_some()).collect();
        let mut newest: HashMap<i64, Newest> = HashMap::new();
        for file in &files {
            let ranges = which.ranges(file);
            let columns = [col::IMEI, col::EFFECTIVE, col::LSN];
            let wanted =
                Wanted { columns: Some(&columns), batch_rows: BATCH_ROWS, ..which.wanted(&ranges) };
            let mut scan = self.0.files.read(file, wanted)?;
            loop {
                let _turn = bounds.turn()?;
                let Some(batch) = scan.next() else { break };
                let batch = batch?;
                let column = |name: &str| batch.column_by_name(name);
                let imei = column(col::IMEI).and_then(|c| c.as_primitive_opt::<Int64Type>());
                let times = column(col::EFFECTIVE)
                    .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
                let lsn = column(col::LSN).and_then(|c| c.as_primitive_opt::<UInt64Type>());
                let (Some(imei), Some(times), Some(lsn)) = (imei, times, lsn) else {
                    return Err(scan.corrupt("a column is missing or of another type".to_owned()));
                };
                let rows = imei.values().iter().zip(times.values()).zip(lsn.values());
                for ((imei, effective), lsn) in rows {
                    let (effective, lsn) = (*effective, *lsn);
                    let found = Newest { effective, lsn, file: file.id };
                    match newest.get_mut(imei) {
                        Some(known) if (known.effective, known.lsn) < (effective, lsn) => {
                            *known = found;
                        }
                        Some(_) => {}
                        None => {
                            budget.take(PLACE_BYTES)?;
                            newest.insert(*imei, found);
                        }
                    }
                }
            }
        }
        let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
        let mut keep = |row: Row| -> Result<(), QueryError> {
            let Some(imei) = row.reading.imei else { return Ok(()) };
            match rows.get_mut(&imei.get()) {
                Some(known) if Position::of(known) < Position::of(&row) => *known = row,
                Some(_) => {}
                None => {
                    budget.take(ROW_BYTES)?;
                    rows.insert(imei.get(), row);
                }
            }
            Ok(())
        };
        for row in view.memory().filter(|row| which.takes(row)) {
            keep(as_stored(row))?;
        }
        for file in files {
            let Some(kind) = file.table.kind() else { continue };
            let of_file = newest.values().filter(|newest| newest.file == file.id);
            let moments: HashSet<(i64, u64)> =
                of_file.map(|newest| (newest.effective, newest.lsn)).collect();
            if moments.is_empty() {
                continue;
            }
            let moments = Arc::new(moments);
            let ranges = which.ranges(file);
            let wanted = Wanted { moments: Some(&moments), ..which.wanted(&ranges) };
            let mut scan = self.0.files.read(file, wanted)?;
            loop {
                let _turn = bounds.turn()?;
                let Some(batch) = scan.next() else { break };
                // Others' readings of the same moments come as well; they are no newer than theirs.
                for row in decode::readings(kind, &batch?).map_err(|why| scan.corrupt(why))? {
                    keep(row)?;
                }
            }
        }
        for row in rows.into_values() {
            if each(row).is_break() {
                break;
            }
        }
        Ok(as_of_lsn)
    }
}
