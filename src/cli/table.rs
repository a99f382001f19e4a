//! A table for people: columns as wide as what is in them, numbers to the right. Columns without any
//! value are left out.

use anyhow::Context as _;

use super::Failure;

/// A table of CSV.
pub(super) fn of_csv(csv: &[u8]) -> Result<String, Failure> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv);
    let rows: Result<Vec<csv::StringRecord>, csv::Error> = reader.records().collect();
    let rows = rows.context("the answer is not the CSV it should be")?;
    let columns = rows.first().map_or(0, csv::StringRecord::len);
    let cell = |row: &csv::StringRecord, column: usize| row.get(column).unwrap_or("").to_owned();
    let shown: Vec<(usize, usize, bool)> = (0..columns)
        .filter_map(|column| {
            let values = || rows.iter().skip(1).map(|row| cell(row, column));
            let empty = values().all(|value| value.is_empty());
            if empty && rows.len() > 1 {
                return None;
            }
            let width = rows.iter().map(|row| cell(row, column).chars().count()).max()?;
            let number = |value: &String| value.is_empty() || value.parse::<f64>().is_ok();
            Some((column, width, values().all(|value| number(&value))))
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, width, right) in &shown {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let value = cell(row, *column);
            line.push_str(&match right {
                true => format!("{value:>width$}"),
                false => format!("{value:<width$}"),
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::of_csv;

    #[test]
    fn columns_line_up_numbers_to_the_right_and_empty_ones_are_left_out() {
        let csv = b"time,station,mean,nothing\n2026,bs1,1.5,\n2026,\"a,b\",21.25,\n";
        let table = "time  station   mean\n2026  bs1        1.5\n2026  a,b      21.25\n";
        assert_eq!(of_csv(csv).map_err(|_| ()).unwrap(), table);
        assert_eq!(of_csv(b"time,mean\n").map_err(|_| ()).unwrap(), "time  mean\n");
        assert_eq!(of_csv(b"").map_err(|_| ()).unwrap(), "");
    }
}
