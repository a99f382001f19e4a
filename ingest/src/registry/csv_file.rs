//! CSV files that people write: good lines are taken, bad ones told by number.

use csv::StringRecord;

/// A line that was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadLine {
    /// Its number in the file, the header being 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What came of reading a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Lines taken over: stations, or projects.
    pub taken: usize,
    /// Lines left out.
    pub bad: Vec<BadLine>,
}

/// Reads a file whose first line names `columns`; `take` is given each of the others, with as many
/// cells.
pub(super) fn read<const N: usize>(
    text: &[u8],
    columns: [&str; N],
    mut take: impl FnMut([&str; N]) -> Result<(), String>,
) -> Loaded {
    let mut loaded = Loaded::default();
    let mut reader = csv::ReaderBuilder::new();
    // Without a header of its own, so that line numbers and the header's check are ours.
    let reader = reader.has_headers(false).flexible(true).trim(csv::Trim::All);
    for (index, record) in reader.from_reader(text).into_records().enumerate() {
        let at = match &record {
            Ok(record) => record.position().cloned(),
            Err(error) => error.position().cloned(),
        };
        let taken = record.map_err(|e| e.to_string()).and_then(|record| {
            if index == 0 {
                return header(&record, columns);
            }
            let cells: Vec<&str> = record.iter().collect();
            let cells = <[&str; N]>::try_from(cells.as_slice())
                .map_err(|_| format!("it has {} columns instead of {N}", cells.len()))?;
            take(cells)?;
            loaded.taken += 1;
            Ok(())
        });
        if let Err(why) = taken {
            loaded.bad.push(BadLine { line: at.map_or(0, |at| line(text, &at)), why });
            if index == 0 {
                // Whatever follows is not what we take it for.
                break;
            }
        }
    }
    loaded
}

/// The line a record stands on; its position may lie before empty lines.
fn line(text: &[u8], at: &csv::Position) -> u64 {
    let from = usize::try_from(at.byte()).unwrap_or(usize::MAX);
    let rest = text.get(from..).unwrap_or_default();
    let empty = rest.iter().take_while(|b| matches!(b, b'\n' | b'\r'));
    at.line() + empty.filter(|b| **b == b'\n').count() as u64
}

fn header<const N: usize>(record: &StringRecord, columns: [&str; N]) -> Result<(), String> {
    let fits = record.iter().map(|cell| cell.trim_start_matches('\u{feff}')).eq(columns);
    if fits { Ok(()) } else { Err(format!("the first line must be {}", columns.join(","))) }
}
