//! Figures of a field: by time, and by device, station or kind.
//!
//! Files are read as columns, and of those only the ones a question needs: hours of a kind's field take
//! two. A reading without the field counts nowhere. Memory grows with the cells of the answer (groups
//! times bins that have values) and is taken from the question's budget; readings are not kept, but for
//!
//! * percentiles: of a cell's first [`EXACT_VALUES`] values the answer is exact, the nearest rank; past
//!   it a DDSketch answers, whose relative error is at most [`SKETCH_ERROR`];
//! * counters ([`counters`]): a device's values are put in order before they are compared; as many
//!   devices at a time as fit.
//!
//! [`EXACT_VALUES`]: cells::EXACT_VALUES
//! [`SKETCH_ERROR`]: cells::SKETCH_ERROR

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use loushan_schemas::field::{Field, FieldType};
use loushan_schemas::ids::StationId;
use loushan_schemas::kind::Kind;

use super::super::manifest::FileEntry;
use super::super::scan::{Range, Wanted};
use super::super::{QueryError, Store};
use super::View;
use super::bounds::{Bounds, Budget};
use super::which::Which;

mod bins;
mod cells;
mod columns;
mod counters;

pub use bins::Bins;
use cells::Cells;
pub use cells::{EXACT_VALUES, SKETCH_ERROR};
use columns::{Columns, Place, Plan};

/// Rows of a few columns decoded at once: large enough that a batch's own costs vanish, small enough
/// that its columns stay near the core.
const BATCH_ROWS: usize = 16 * 1024;
/// How to need less memory.
const REMEDY: &str = "ask for a shorter span of time, longer bins, or a coarser grouping, or raise \
                      query.memory";

/// A figure of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// How many readings have it.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The smallest.
    Min,
    /// The greatest.
    Max,
    /// Of the first reading by effective time.
    First,
    /// Of the last one.
    Last,
    /// The value that this part of them does not exceed, from 0 to 1.
    Quantile(f64),
    /// Of a counter: how much it counted.
    Increase,
    /// Of a counter: how much it counted in each unit of the time that is known of.
    Rate,
}

impl Function {
    /// Whether only counters have it.
    #[must_use]
    pub const fn is_of_counters(self) -> bool {
        matches!(self, Self::Increase | Self::Rate)
    }
}

/// What has a figure of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// All of it together.
    Nothing,
    /// Each device; of stations' own figures each station.
    Device,
    /// Each station.
    Station,
    /// Each kind.
    Kind,
}

/// A question for figures.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Of which readings.
    pub which: Which,
    /// Of which field.
    pub field: &'static str,
    /// Which figures.
    pub functions: Vec<Function>,
    /// In which bins; `None`: all of the time in one.
    pub bins: Option<Bins>,
    /// Of what each.
    pub by: By,
    /// The unit of time of [`Function::Rate`], in milliseconds.
    pub per_ms: i64,
}

/// A field of a kind.
#[must_use]
pub fn field_of(kind: Kind, name: &str) -> Option<&'static Field> {
    kind.common_fields().iter().chain(kind.fields()).find(|field| field.name == name)
}

/// Whether a field's values can be reckoned with; yes and no are 1 and 0.
#[must_use]
pub const fn is_numeric(field: &Field) -> bool {
    matches!(field.ty, FieldType::Int | FieldType::Float | FieldType::Bool)
}

/// What a figure is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// All.
    All,
    /// A device, by its IMEI.
    Device(u64),
    /// A station.
    Station(StationId),
    /// A kind.
    Kind(Kind),
}

/// The figures of a group in a bin.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Of what.
    pub group: Group,
    /// When the bin begins; where there are no bins, the beginning of the span.
    pub start_ms: i64,
    /// In the order asked for; `None` where there is none, as of a counter that was read once.
    pub values: Vec<Option<f64>>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregated {
    /// By group, then by time. Bins without a value are left out.
    pub cells: Vec<Cell>,
    /// Whether percentiles are approximate, by at most [`SKETCH_ERROR`] of their value.
    pub approximate: bool,
    /// Everything of the log up to here was looked at.
    pub as_of_lsn: u64,
}

impl Store {
    /// Figures of a field. A kind that lacks the field, or has it as no number, counts nowhere.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, or past the bounds.
    pub fn aggregate(
        &self,
        question: &Aggregate,
        bounds: &Bounds,
    ) -> Result<Aggregated, QueryError> {
        let (view, as_of_lsn) = self.view_of(question.which.device);
        let mut asked = Asked {
            store: self,
            view: &view,
            question,
            bounds,
            budget: bounds.budget(REMEDY),
            names: Names::default(),
            cells: Cells::new(&question.functions),
        };
        if question.which.from_ms < question.which.to_ms {
            for kind in Kind::ALL {
                if question.which.kind.is_none_or(|wanted| wanted == kind)
                    && let Some(field) = field_of(kind, question.field)
                {
                    asked.look_at(kind, field)?;
                }
            }
        }
        let (cells, approximate) = asked.answer();
        let as_of_lsn = as_of_lsn.min(question.which.up_to_lsn);
        Ok(Aggregated { cells, approximate, as_of_lsn })
    }
}

/// A question under way.
struct Asked<'a> {
    store: &'a Store,
    view: &'a View,
    question: &'a Aggregate,
    bounds: &'a Bounds,
    budget: Budget,
    names: Names,
    cells: Cells,
}

impl Asked<'_> {
    fn look_at(&mut self, kind: Kind, field: &'static Field) -> Result<(), QueryError> {
        let functions = &self.question.functions;
        let numeric = is_numeric(field);
        let plain = |f: &Function| !f.is_of_counters() && (numeric || *f == Function::Count);
        if functions.iter().any(plain) {
            self.values(kind, field)?;
        }
        if let Some(counter) = field.counter
            && functions.iter().any(|f| f.is_of_counters())
        {
            counters::count(self, kind, field, counter)?;
        }
        Ok(())
    }

    /// The files that can hold such rows of a kind.
    fn files(&self, kind: Kind, which: &Which) -> Vec<Arc<FileEntry>> {
        let files = self.view.files.files.values();
        let files = files.filter(|file| file.table.kind() == Some(kind) && which.can_be_in(file));
        files.map(Arc::clone).collect()
    }

    fn values(&mut self, kind: Kind, field: &'static Field) -> Result<(), QueryError> {
        let Some(place) = Place::of(kind, field) else { return Ok(()) };
        let Aggregate { by, bins, functions, .. } = self.question;
        let (by, bins) = (*by, *bins);
        let which = Which { kind: Some(kind), ..self.question.which.clone() };
        for (at, row) in self.view.memory().enumerate() {
            if at % BATCH_ROWS == 0 {
                self.bounds.stop.check()?;
            }
            if !which.takes(row) {
                continue;
            }
            let Some(value) = place.value(row) else { continue };
            let group = match (by, row.reading.imei) {
                (By::Nothing, _) => 0,
                (By::Kind, _) => kind.number().into(),
                (By::Device, Some(imei)) => imei.get(),
                (By::Device | By::Station, _) => self.names.number(row.station.as_str()),
            };
            let ms = row.reading.times.effective.ms();
            let start = bins.map_or(which.from_ms, |bins| bins.start(ms));
            self.cells.add((group, start), (ms, row.lsn), value, &mut self.budget)?;
        }
        let ends = functions.iter().any(|f| matches!(f, Function::First | Function::Last));
        for file in self.files(kind, &which) {
            let mut plan = Plan::new(&which, &file, by, kind);
            plan.lsn |= ends;
            let Self { store, bounds, names, cells, budget, .. } = self;
            let ranges = which.ranges(&file);
            read(store, bounds, &file, &which, &ranges, &plan.columns(field.name), |batch| {
                let Some(columns) = Columns::of(batch, field, plan)? else { return Ok(false) };
                columns.cells(&which, bins, by, kind, names, &mut |at, when, value| {
                    cells.add(at, when, value, budget)
                })?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn answer(self) -> (Vec<Cell>, bool) {
        let Self { question, names, cells, .. } = self;
        let group = |key: u64| match question.by {
            By::Nothing => Some(Group::All),
            By::Kind => u8::try_from(key).ok().and_then(Kind::from_number).map(Group::Kind),
            By::Station | By::Device => match names.name(key) {
                Some(name) => StationId::new(name).ok().map(Group::Station),
                None => Some(Group::Device(key)),
            },
        };
        let (values, approximate) = cells.finish(&question.functions);
        let mut answer: Vec<Cell> = values
            .into_iter()
            .filter_map(|(key, start_ms, values)| {
                Some(Cell { group: group(key)?, start_ms, values })
            })
            .collect();
        answer.sort_by(|a, b| (&a.group, a.start_ms).cmp(&(&b.group, b.start_ms)));
        (answer, approximate)
    }
}

/// Hands over these columns of a file, of the pages that can have rows in the ranges, batch by batch,
/// each in a turn of its own. Which rows of it are wanted is still to be looked at. `each` breaks the file off by `false`.
fn read(
    store: &Store,
    bounds: &Bounds,
    file: &Arc<FileEntry>,
    which: &Which,
    ranges: &[Range],
    columns: &[&'static str],
    mut each: impl FnMut(&RecordBatch) -> Result<bool, Fault>,
) -> Result<(), QueryError> {
    let wanted = Wanted {
        columns: Some(columns),
        sifted: false,
        batch_rows: BATCH_ROWS,
        ..which.wanted(ranges)
    };
    let mut scan = store.0.files.read(file, wanted)?;
    loop {
        let _turn = bounds.turn()?;
        let Some(batch) = scan.next() else { return Ok(()) };
        match each(&batch?) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(Fault::Columns(why)) => return Err(scan.corrupt(why)),
            Err(Fault::Query(error)) => return Err(error),
        }
    }
}

/// Why a batch could not be taken in.
enum Fault {
    /// Its columns are not what they should be.
    Columns(String),
    /// The question ends.
    Query(QueryError),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Columns(why)
    }
}

impl From<QueryError> for Fault {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

/// Numbers for stations' names, above all IMEIs.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u64>,
    names: Vec<Arc<str>>,
}

/// An IMEI has 15 digits.
const FIRST_NAME: u64 = 1 << 60;

impl Names {
    fn number(&mut self, name: &str) -> u64 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let (name, number): (Arc<str>, u64) = (name.into(), FIRST_NAME + self.names.len() as u64);
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    fn name(&self, number: u64) -> Option<&str> {
        let at = usize::try_from(number.checked_sub(FIRST_NAME)?).ok()?;
        self.names.get(at).map(|name| &**name)
    }
}
