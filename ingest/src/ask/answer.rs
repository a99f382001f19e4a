//! Answers.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, Field, Schema};
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use serde_json::{Map, Value, json};

use super::format::Format;
use super::question::{Asked, Question, more_than_a_page, several_kinds};
use super::table::{Table, begin_object, end_object};
use super::{AskError, Place, latest, page, text};
use crate::sink::embedded::{
    Aggregate, Aggregated, Bins, Bounds, By, Group, Order, Page, QueryError, Silence, Which,
    batch_of, rows_of, schema_of,
};

/// Rows turned into columns at once.
const BATCH_ROWS: usize = 4096;

/// Where an answer goes.
type Out<'a> = &'a mut (dyn Write + Send);
/// What is said beside rows.
type About = Map<String, Value>;

/// Answers a question, writing as it reads.
///
/// # Errors
/// When the store cannot answer, there is nothing to tell, or the answer cannot be written. What has
/// been written until then is a part of an answer.
pub fn answer(
    place: &Place,
    asked: &Asked,
    bounds: &Bounds,
    out: &mut (dyn Write + Send),
) -> Result<(), AskError> {
    let format = asked.format;
    match &asked.question {
        Question::Latest(which) => latest_of(place, which, bounds, format, out),
        Question::History { which, order, after, limit, limit_named, fields } => {
            let asking = Asking { place, which, bounds, format };
            let page = place.store.page(which, *order, *after, *limit, bounds)?;
            if page.next.is_some() && !limit_named && format != Format::Json {
                return Err(more_than_a_page(format).into());
            }
            asking.history(page, *order, *limit, fields, out)
        }
        Question::Aggregate(question, names) => {
            let answer = place.store.aggregate(question, bounds)?;
            aggregated(question, names, &answer, format, out)
        }
        Question::Seen(which) => Asking { place, which, bounds, format }.seen(out),
        Question::Gaps(which, silence) => {
            Asking { place, which, bounds, format }.gaps(*silence, out)
        }
        Question::Export(kind, which, fields) => {
            Asking { place, which, bounds, format }.export(*kind, fields, out)
        }
    }
}

fn latest_of(
    place: &Place,
    which: &Which,
    bounds: &Bounds,
    format: Format,
    out: Out<'_>,
) -> Result<(), AskError> {
    let mut about = about(which);
    about.remove("min_quality");
    if format.is_table() {
        // Of one device the kind is its reading's.
        let mut kind = which.kind;
        if kind.is_none() {
            latest::each(place, which, bounds, &mut |row| {
                kind = Some(row.reading.kind());
                ControlFlow::Break(())
            })?;
        }
        let kind = kind.ok_or_else(several_kinds)?;
        let mut table = Table::begin(format, schema_of(kind), &about, "readings", out)?;
        let mut rows: Vec<Arc<Row>> = Vec::new();
        let mut written = Ok(());
        let mut write = |rows: &mut Vec<Arc<Row>>| {
            written = batch(kind, rows).and_then(|batch| Ok(table.write(&batch)?));
            rows.clear();
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        latest::each(place, which, bounds, &mut |row| {
            rows.push(row);
            if rows.len() < BATCH_ROWS { ControlFlow::Continue(()) } else { write(&mut rows) }
        })?;
        if !rows.is_empty() {
            let _written = write(&mut rows);
        }
        written?;
        return Ok(table.end(&About::new())?);
    }
    let mut rows = Lines::begin(format, &about, out)?;
    let mut written = Ok(());
    let as_of = latest::each(place, which, bounds, &mut |row| {
        written = rows.write(&row);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    written?;
    let mut more = About::new();
    more.insert("count".to_owned(), rows.rows.into());
    more.insert("as_of_lsn".to_owned(), as_of.into());
    Ok(rows.end(&more)?)
}

/// A question about some readings.
struct Asking<'a> {
    place: &'a Place,
    which: &'a Which,
    bounds: &'a Bounds,
    format: Format,
}

impl Asking<'_> {
    fn history(
        &self,
        page: Page,
        order: Order,
        limit: usize,
        fields: &[String],
        out: Out<'_>,
    ) -> Result<(), AskError> {
        let Self { which, format, .. } = *self;
        // The pages after the first are of the same moment.
        let moment = Which { up_to_lsn: page.as_of_lsn, ..which.clone() };
        let next = page.next.map(|at| page::word(&moment, order, &at));
        let mut about = about(which);
        about.insert("as_of_lsn".to_owned(), page.as_of_lsn.into());
        about.insert("limit".to_owned(), limit.into());
        about.insert("limit_reached".to_owned(), next.is_some().into());
        about.insert("next_page".to_owned(), next.into());
        if fields.is_empty() && !format.is_table() {
            let mut rows = Lines::begin(format, &about, out)?;
            for row in &page.rows {
                rows.write(row)?;
            }
            return Ok(rows.end(&About::new())?);
        }
        // Nothing of any kind has the columns that all have.
        let of_all = ["station".to_owned()];
        let (kind, fields) = match (which.kind, page.rows.first()) {
            (Some(kind), _) => (kind, fields),
            (None, Some(row)) => (row.reading.kind(), fields),
            (None, None) => (Kind::Water, &of_all[..]),
        };
        if page.rows.iter().all(|row| row.reading.kind() == kind) {
            let projection = Projection::new(kind, fields)?;
            let schema = Arc::clone(&projection.schema);
            let mut table = Table::begin(format, schema, &about, "readings", out)?;
            for rows in page.rows.chunks(BATCH_ROWS) {
                let rows: Vec<&Row> = rows.iter().collect();
                table.write(&projection.of(&batch_of(kind, &rows)?)?)?;
            }
            return Ok(table.end(&About::new())?);
        }
        if format.is_table() {
            return Err(several_kinds().into());
        }
        let mut rows = Lines::begin(format, &about, out)?;
        for row in &page.rows {
            let kind = row.reading.kind();
            let batch = Projection::new(kind, fields)?.of(&batch_of(kind, &[row])?)?;
            rows.object(|line| text::object(&batch, 0, line))?;
        }
        Ok(rows.end(&About::new())?)
    }

    fn export(&self, kind: Kind, fields: &[String], out: Out<'_>) -> Result<(), AskError> {
        let Self { place, which, bounds, format } = *self;
        let mut written: Result<(), AskError> = Ok(());
        let going = |done: &Result<(), AskError>| match done {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        if fields.is_empty() && !format.is_table() {
            let mut lines = Lines::begin(format, &About::new(), out)?;
            place.store.stream(kind, which, bounds, &mut |batch| {
                written = rows_of(kind, &batch)
                    .map_err(AskError::from)
                    .and_then(|rows| rows.iter().try_for_each(|row| Ok(lines.write(row)?)));
                going(&written)
            })?;
            written?;
            return Ok(lines.end(&About::new())?);
        }
        let projection = Projection::new(kind, fields)?;
        let schema = Arc::clone(&projection.schema);
        let mut table = Table::begin(format, schema, &About::new(), "readings", out)?;
        place.store.stream(kind, which, bounds, &mut |batch| {
            written = projection.of(&batch).and_then(|batch| Ok(table.write(&batch)?));
            going(&written)
        })?;
        written?;
        Ok(table.end(&About::new())?)
    }

    fn seen(&self, out: Out<'_>) -> Result<(), AskError> {
        let Self { place, which, bounds, format } = *self;
        let seen = place.store.seen(which, bounds)?;
        let Some((first, last)) = seen.ends.as_deref() else {
            let what = match (&which.device, &which.station) {
                (Some(device), _) => format!("device {device}"),
                (None, Some(station)) => format!("station {station}"),
                (None, None) => "what was asked for".to_owned(),
            };
            return Err(AskError::Nothing(format!("nothing is stored of {what}")));
        };
        let mut about = about(which);
        about.remove("min_quality");
        about.insert("as_of_lsn".to_owned(), seen.as_of_lsn.into());
        let times = [first, last].map(|row| row.reading.times.effective.ms());
        let columns: Vec<(&str, ArrayRef)> =
            vec![("first_seen", time_column([times[0]])), ("last_seen", time_column([times[1]]))];
        if format == Format::Json {
            let [first_ms, last_ms] = times;
            about.insert("first_seen_ms".to_owned(), first_ms.into());
            about.insert("last_seen_ms".to_owned(), last_ms.into());
            let mut rows = Lines::begin(format, &about, out)?;
            rows.write(first)?;
            rows.write(last)?;
            return Ok(rows.end(&About::new())?);
        }
        write_columns(format, columns, &about, "seen", out)
    }

    fn gaps(&self, silence: Silence, out: Out<'_>) -> Result<(), AskError> {
        let Self { place, which, bounds, format } = *self;
        let found = place.store.gaps(which, silence, place.now_ms, bounds)?;
        let mut about = about(which);
        about.insert("as_of_lsn".to_owned(), found.as_of_lsn.into());
        about.insert("readings".to_owned(), found.readings.into());
        about.insert("usual_ms".to_owned(), found.usual_ms.into());
        about.insert("longer_than_ms".to_owned(), found.longer_than_ms.into());
        let gaps = &found.gaps;
        let from = time_column(gaps.iter().map(|gap| gap.from_ms));
        let to = gaps.iter().map(|gap| gap.to_ms.map(micros));
        let to: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter(to).with_timezone("UTC"));
        let length = gaps.iter().map(|gap| gap.length_ms);
        let length: ArrayRef = Arc::new(Int64Array::from_iter_values(length));
        let open = gaps.iter().map(|gap| Some(gap.to_ms.is_none()));
        let open: ArrayRef = Arc::new(BooleanArray::from_iter(open));
        // Milliseconds by their name: in CSV a time would be one of day.
        let columns =
            vec![("begin", from), ("end", to), ("length_ms", length), ("still_silent", open)];
        write_columns(format, columns, &about, "gaps", out)
    }
}

fn aggregated(
    question: &Aggregate,
    names: &[&'static str],
    answer: &Aggregated,
    format: Format,
    out: Out<'_>,
) -> Result<(), AskError> {
    let mut about = about(&question.which);
    about.insert("as_of_lsn".to_owned(), answer.as_of_lsn.into());
    about.insert("field".to_owned(), question.field.into());
    about.insert("every_ms".to_owned(), question.bins.map(Bins::every_ms).into());
    if names.contains(&"rate") {
        about.insert("per_ms".to_owned(), question.per_ms.into());
    }
    if names.iter().any(|name| name.starts_with('p')) {
        about.insert("percentiles_are_approximate".to_owned(), answer.approximate.into());
    }
    let cells = &answer.cells;
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    if question.bins.is_some() {
        columns.push(("time", time_column(cells.iter().map(|cell| cell.start_ms))));
    }
    let devices = cells.iter().map(|cell| match &cell.group {
        Group::Device(imei) => i64::try_from(*imei).ok(),
        _ => None,
    });
    let stations = cells.iter().map(|cell| match &cell.group {
        Group::Station(station) => Some(station.as_str()),
        _ => None,
    });
    let kinds = cells.iter().map(|cell| match &cell.group {
        Group::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    let has_station = stations.clone().any(|station| station.is_some());
    if question.by == By::Device && (!has_station || devices.clone().any(|it| it.is_some())) {
        columns.push((text::IMEI, Arc::new(Int64Array::from_iter(devices))));
    }
    if question.by == By::Station || has_station {
        columns.push(("station", Arc::new(StringArray::from_iter(stations))));
    }
    if question.by == By::Kind {
        columns.push(("kind", Arc::new(StringArray::from_iter(kinds))));
    }
    for (at, name) in names.iter().enumerate() {
        let values = cells.iter().map(|cell| cell.values.get(at).copied().flatten());
        // A count is a whole number, below 2^53.
        #[allow(clippy::cast_possible_truncation)]
        let column: ArrayRef = match *name {
            "count" => Arc::new(Int64Array::from_iter(values.map(|v| v.map(|v| v as i64)))),
            _ => Arc::new(Float64Array::from_iter(values)),
        };
        columns.push((name, column));
    }
    write_columns(format, columns, &about, "figures", out)
}

fn write_columns(
    format: Format,
    columns: Vec<(&str, ArrayRef)>,
    about: &About,
    name: &str,
    out: Out<'_>,
) -> Result<(), AskError> {
    let fields = columns.iter();
    let fields = fields.map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(unfit)?;
    let mut table = Table::begin(format, schema, about, name, out)?;
    let mut at = 0;
    while at < batch.num_rows() {
        let rows = BATCH_ROWS.min(batch.num_rows() - at);
        table.write(&batch.slice(at, rows))?;
        at += rows;
    }
    Ok(table.end(&About::new())?)
}

/// Rows as JSON, each as stored.
struct Lines<'a> {
    format: Format,
    out: Out<'a>,
    rows: u64,
    line: String,
}

impl<'a> Lines<'a> {
    fn begin(format: Format, about: &About, out: Out<'a>) -> io::Result<Self> {
        if format == Format::Json {
            begin_object(about, "readings", out)?;
        }
        Ok(Self { format, out, rows: 0, line: String::new() })
    }

    fn write(&mut self, row: &Row) -> io::Result<()> {
        self.object(|line| row.write_json(line))
    }

    fn object(&mut self, write: impl FnOnce(&mut String)) -> io::Result<()> {
        self.line.clear();
        if self.format == Format::Json {
            self.line.push_str(if self.rows == 0 { "\n" } else { ",\n" });
        }
        write(&mut self.line);
        if self.format == Format::Ndjson {
            self.line.push('\n');
        }
        self.rows += 1;
        self.out.write_all(self.line.as_bytes())
    }

    fn end(self, more: &About) -> io::Result<()> {
        match self.format {
            Format::Json => end_object(more, self.out),
            _ => self.out.flush(),
        }
    }
}

/// The columns of a kind that are asked for: those that say of what and when, and the fields named.
struct Projection {
    schema: Arc<Schema>,
    places: Option<Vec<usize>>,
}

impl Projection {
    fn new(kind: Kind, fields: &[String]) -> Result<Self, AskError> {
        let schema = schema_of(kind);
        if fields.is_empty() {
            return Ok(Self { schema, places: None });
        }
        let always = [text::IMEI, "station", "effective", "quality"];
        let names = always.into_iter().chain(fields.iter().map(String::as_str));
        let mut places: Vec<usize> = Vec::new();
        for place in names.filter_map(|name| schema.index_of(name).ok()) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let schema = Arc::new(schema.project(&places).map_err(unfit)?);
        Ok(Self { schema, places: Some(places) })
    }

    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch, AskError> {
        match &self.places {
            None => Ok(batch.clone()),
            Some(places) => batch.project(places).map_err(unfit),
        }
    }
}

fn batch(kind: Kind, rows: &[Arc<Row>]) -> Result<RecordBatch, AskError> {
    Ok(batch_of(kind, &rows.iter().map(|row| &**row).collect::<Vec<_>>())?)
}

/// Columns that do not go together; a defect of this program.
#[allow(clippy::needless_pass_by_value)] // as map_err hands it over
fn unfit(error: ArrowError) -> AskError {
    AskError::Query(QueryError::Encode(error.to_string()))
}

/// What an answer is about, as far as it was said.
fn about(which: &Which) -> About {
    let mut about = About::new();
    let mut say = |name: &str, value: Value| {
        about.insert(name.to_owned(), value);
    };
    if let Some(device) = which.device {
        say("imei", device.to_string().into());
    }
    if let Some(station) = &which.station {
        say("station", station.as_str().into());
    }
    if let Some(kind) = which.kind {
        say("kind", kind.as_str().into());
    }
    if which.from_ms > i64::MIN {
        say("from_ms", which.from_ms.into());
    }
    if which.to_ms < i64::MAX {
        say("to_ms", which.to_ms.into());
    }
    say("min_quality", json!(which.min_quality.number()));
    about
}

fn micros(ms: i64) -> i64 {
    ms.saturating_mul(1000)
}

fn time_column(times: impl IntoIterator<Item = i64>) -> ArrayRef {
    let times = times.into_iter().map(micros);
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}
