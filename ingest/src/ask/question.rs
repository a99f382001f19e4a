//! Questions, parsed.

use loushan_schemas::field::Field;
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::Quality;

use super::format::Format;
use super::given::{BadParameter, Given};
use super::page;
use crate::sink::embedded::{
    Aggregate, Among, Bins, By, Function, Order, Position, Silence, Which, field_of, is_numeric,
    schema_of,
};

/// Rows of one page: what a screen shows, and a bound on its memory.
const PAGE_ROWS: u64 = 10_000;
/// Rows of a page when no limit is named.
const PAGE_DEFAULT: u64 = 1_000;
/// How many times the usual silence is a gap, when nothing is said: as for the alarm of a silent device.
const GAP_FACTOR: f64 = 2.5;
/// Names of figures.
const FUNCTIONS: [(&str, Function); 12] = [
    ("count", Function::Count),
    ("sum", Function::Sum),
    ("mean", Function::Mean),
    ("min", Function::Min),
    ("max", Function::Max),
    ("first", Function::First),
    ("last", Function::Last),
    ("p50", Function::Quantile(0.5)),
    ("p95", Function::Quantile(0.95)),
    ("p99", Function::Quantile(0.99)),
    ("increase", Function::Increase),
    ("rate", Function::Rate),
];

/// Which question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The newest reading of each device.
    Latest,
    /// Readings in the order of their times.
    History,
    /// Figures of a field.
    Aggregate,
    /// When something was first and last heard of.
    Seen,
    /// When it was not.
    Gaps,
    /// All readings of a kind.
    Export,
}

/// A question.
#[derive(Debug, Clone)]
pub enum Question {
    /// The newest reading of each device.
    Latest(Which),
    /// A page of readings.
    History {
        /// Of which.
        which: Which,
        /// In which order.
        order: Order,
        /// Behind which one.
        after: Option<Position>,
        /// How many.
        limit: usize,
        /// Whether somebody wanted no more than that.
        limit_named: bool,
        /// Only these fields, if any are named.
        fields: Vec<String>,
    },
    /// Figures of a field, by these names.
    Aggregate(Box<Aggregate>, Vec<&'static str>),
    /// The first and the last of these.
    Seen(Which),
    /// Silences of these.
    Gaps(Which, Silence),
    /// All of these readings of a kind, with only these fields, if any are named.
    Export(Kind, Which, Vec<String>),
}

/// A question, and how it is to be answered.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// The answer's format.
    pub format: Format,
    /// The project whose stations it is about, if one is named; see [`Asked::within`].
    pub project: Option<String>,
}

impl Asked {
    /// Parses a question. `default` is the format when none is named.
    ///
    /// # Errors
    /// The first parameter that is wrong.
    pub fn parse(
        what: What,
        given: &Given,
        default: Option<Format>,
        now_ms: i64,
    ) -> Result<Self, BadParameter> {
        given.only(what.parameters())?;
        let format = given.word("format", &Format::WORDS)?.or(default);
        let (from, to) = given.span(now_ms)?;
        let which = Which {
            device: given.device()?,
            station: given.station()?,
            kind: given.kind()?,
            from_ms: from.unwrap_or(i64::MIN),
            to_ms: to.unwrap_or(i64::MAX),
            min_quality: given.quality()?.unwrap_or(Quality::Rejected),
            // Nobody's, until somebody says which stations those of the project are.
            among: given.text("project").map(|_| Among::default()),
            ..Which::default()
        };
        let question = match what {
            What::Latest => Question::Latest(which),
            What::History => history(given, which)?,
            What::Aggregate => aggregate(given, which)?,
            What::Seen => Question::Seen(of_something(which)?),
            What::Gaps => Question::Gaps(of_something(which)?, silence(given)?),
            What::Export => export(given, which)?,
        };
        let format = format.unwrap_or_else(|| question.format());
        let project = given.text("project").map(str::to_owned);
        let asked = Self { question, format, project };
        asked.check_format(given)?;
        Ok(asked)
    }

    /// The question of only what came by these stations. Where a project is named it must be said which
    /// they are: until then the answer is empty.
    ///
    /// # Errors
    /// When a page is named that is of another question.
    pub fn within(&mut self, given: &Given, stations: Among) -> Result<(), BadParameter> {
        let which = match &mut self.question {
            Question::History { which, order, after, .. } => {
                which.among = Some(stations);
                *after = page_of(given, which, *order)?;
                return Ok(());
            }
            Question::Latest(which)
            | Question::Seen(which)
            | Question::Gaps(which, _)
            | Question::Export(_, which, _) => which,
            Question::Aggregate(question, _) => &mut question.which,
        };
        which.among = Some(stations);
        Ok(())
    }

    /// Rows of a table are of one kind.
    fn check_format(&self, given: &Given) -> Result<(), BadParameter> {
        let which = match &self.question {
            Question::Latest(which) | Question::History { which, .. } => which,
            Question::Export(..) if self.format == Format::Json => {
                let error = "an export is no one object";
                let accepted = "ndjson, csv, arrow, parquet";
                return Err(BadParameter::new("format", given.text("format"), error, accepted));
            }
            _ => return Ok(()),
        };
        // A device's readings are nearly always of one kind; whether they are will be seen.
        if which.kind.is_none() && which.device.is_none() && self.format.is_table() {
            return Err(several_kinds());
        }
        Ok(())
    }

    /// Whether it may read a large part of the store: then it is to yield to everything else.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        match &self.question {
            Question::Latest(_) => false,
            Question::History { which, .. } | Question::Seen(which) | Question::Gaps(which, _) => {
                which.device.is_none()
            }
            Question::Aggregate(question, _) => question.which.device.is_none(),
            Question::Export(..) => true,
        }
    }

    /// Whether its answer has no bound, and may be taken slowly.
    #[must_use]
    pub const fn is_export(&self) -> bool {
        matches!(self.question, Question::Export(..))
    }
}

/// Rows of a table have the columns of one kind.
/// A format without a place for what there is beside rows would hide that there are more.
pub(super) fn more_than_a_page(format: Format) -> BadParameter {
    let word = Format::WORDS.iter().find(|(_, it)| *it == format).map_or("", |(word, _)| word);
    let error =
        format!("there are more than {PAGE_DEFAULT} readings, which format={word} cannot say");
    let accepted =
        "a limit; or format=json, which names the next page; or an export, which has all";
    BadParameter::new("limit", None, error, accepted)
}

pub(super) fn several_kinds() -> BadParameter {
    let error = "rows of this format have the columns of one kind, and none is named";
    let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let accepted = format!("{}; or format=json, ndjson", words.join(", "));
    BadParameter::new("kind", None, error, accepted)
}

impl Question {
    const fn format(&self) -> Format {
        match self {
            Self::Export(..) => Format::Ndjson,
            _ => Format::Json,
        }
    }
}

fn of_something(which: Which) -> Result<Which, BadParameter> {
    if which.device.is_none() && which.station.is_none() {
        let error = "neither a device nor a station is named";
        return Err(BadParameter::new("device", None, error, "a device, or a station"));
    }
    Ok(which)
}

fn history(given: &Given, mut which: Which) -> Result<Question, BadParameter> {
    if which.device.is_none() && which.station.is_none() && which.kind.is_none() {
        let error = "neither a device nor a station nor a kind is named";
        return Err(BadParameter::new("device", None, error, "a device, a station or a kind"));
    }
    let orders = [("oldest", Order::OldestFirst), ("newest", Order::NewestFirst)];
    let order = given.word("order", &orders)?.unwrap_or(Order::OldestFirst);
    let named = given.number("limit", 1..=PAGE_ROWS)?;
    let (limit, limit_named) = (named.unwrap_or(PAGE_DEFAULT), named.is_some());
    // Of a project the page is read when its stations are known: they are part of the question.
    let after = if which.among.is_none() { page_of(given, &mut which, order)? } else { None };
    let fields = fields(given, which.kind)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Question::History { which, order, after, limit, limit_named, fields })
}

/// Where the page before ended, if a page is named.
fn page_of(
    given: &Given,
    which: &mut Which,
    order: Order,
) -> Result<Option<Position>, BadParameter> {
    let Some(word) = given.text("page") else { return Ok(None) };
    let after = page::read(word, which, order);
    after.map(Some).ok_or_else(|| {
        let error = "the page is none of this question";
        let accepted = "next_page of the page before, with the other parameters as they were";
        BadParameter::new("page", Some(word), error, accepted)
    })
}

fn export(given: &Given, which: Which) -> Result<Question, BadParameter> {
    let Some(kind) = which.kind else {
        let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let error = "an export is of one kind, and none is named";
        return Err(BadParameter::new("kind", None, error, words.join(", ")));
    };
    let fields = fields(given, which.kind)?;
    Ok(Question::Export(kind, which, fields))
}

/// Names of columns, which the kind has, or, where none is named, some kind.
fn fields(given: &Given, kind: Option<Kind>) -> Result<Vec<String>, BadParameter> {
    let Some(text) = given.text("fields") else { return Ok(Vec::new()) };
    let kinds: Vec<Kind> = kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    let schemas: Vec<_> = kinds.into_iter().map(schema_of).collect();
    let mut fields: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !schemas.iter().any(|schema| schema.field_with_name(name).is_ok()) {
            let error = "there is no such field";
            let names = schemas.iter().flat_map(|schema| schema.fields().iter());
            let mut names: Vec<&str> = names.map(|field| field.name().as_str()).collect();
            names.sort_unstable();
            names.dedup();
            return Err(BadParameter::new("fields", Some(name), error, names.join(", ")));
        }
        if !fields.iter().any(|field| field == name) {
            fields.push(name.to_owned());
        }
    }
    Ok(fields)
}

fn silence(given: &Given) -> Result<Silence, BadParameter> {
    let longer_than = given.length("longer_than")?;
    let factor = given.text("factor").map(|text| {
        let factor = text.parse::<f64>().ok().filter(|f| (1.0..=1e6).contains(f));
        factor.ok_or_else(|| {
            let error = "the value is not accepted";
            BadParameter::new("factor", Some(text), error, "a number from 1 to 1000000")
        })
    });
    match (longer_than, factor.transpose()?) {
        (Some(_), Some(_)) => {
            let error = "a gap is longer than a length, or than some times the usual one";
            let accepted = "longer_than or factor";
            Err(BadParameter::new("factor", given.text("factor"), error, accepted))
        }
        (Some(ms), None) => Ok(Silence::LongerThan(ms)),
        (None, factor) => Ok(Silence::TimesUsual(factor.unwrap_or(GAP_FACTOR))),
    }
}

fn aggregate(given: &Given, mut which: Which) -> Result<Question, BadParameter> {
    if given.text("min_quality").is_none() {
        // What is physically impossible is nobody's mean.
        which.min_quality = Quality::RejectedProbable;
    }
    let (name, fields) = field(given, which.kind)?;
    let (functions, names) = functions(given, name, &fields)?;
    let words = [
        ("none", By::Nothing),
        ("device", By::Device),
        ("station", By::Station),
        ("kind", By::Kind),
    ];
    let by = given.word("by", &words)?.unwrap_or(By::Nothing);
    let zone_ms = given.zone()?;
    let bins = given.length("every")?.map(|every_ms| Bins::new(every_ms, zone_ms));
    let per_ms = given.length("per")?.unwrap_or(1000);
    let question = Aggregate { which, field: name, functions, bins, by, per_ms };
    Ok(Question::Aggregate(Box::new(question), names))
}

/// The field that is named, as the kinds have it that are asked about.
fn field(
    given: &Given,
    kind: Option<Kind>,
) -> Result<(&'static str, Vec<&'static Field>), BadParameter> {
    let kinds = Kind::ALL.into_iter().filter(|of| kind.is_none_or(|kind| kind == *of));
    let text = given.text("field");
    let name = text.unwrap_or_default();
    let found: Vec<&'static Field> = kinds.clone().filter_map(|of| field_of(of, name)).collect();
    if let Some(field) = found.first() {
        return Ok((field.name, found));
    }
    let all = kinds.flat_map(|kind| kind.common_fields().iter().chain(kind.fields()));
    let mut names: Vec<&str> = all.filter(|field| is_numeric(field)).map(|f| f.name).collect();
    names.sort_unstable();
    names.dedup();
    let error = if text.is_none() { "no field is named" } else { "there is no such field" };
    Err(BadParameter::new("field", text, error, names.join(", ")))
}

fn functions(
    given: &Given,
    name: &str,
    fields: &[&'static Field],
) -> Result<(Vec<Function>, Vec<&'static str>), BadParameter> {
    let text = given.text("fn").unwrap_or("mean");
    let numeric = fields.iter().any(|field| is_numeric(field));
    let counter = fields.iter().any(|field| field.counter.is_some());
    let fits = |function: Function| match function {
        Function::Count => true,
        function if function.is_of_counters() => counter,
        _ => numeric,
    };
    let accepted = || {
        let words = FUNCTIONS.iter().filter(|(_, function)| fits(*function));
        let words: Vec<&str> = words.map(|(word, _)| *word).collect();
        words.join(", ")
    };
    let (mut functions, mut names) = (Vec::new(), Vec::new());
    for word in text.split(',').map(str::trim) {
        let Some((word, function)) = FUNCTIONS.iter().find(|(known, _)| *known == word) else {
            let error = "there is no such figure";
            return Err(BadParameter::new("fn", Some(word), error, accepted()));
        };
        if !fits(*function) {
            let what = if function.is_of_counters() { "counter" } else { "number" };
            let error = format!("{name} is no {what}");
            return Err(BadParameter::new("fn", Some(word), error, accepted()));
        }
        if !names.contains(word) {
            functions.push(*function);
            names.push(*word);
        }
    }
    Ok((functions, names))
}
