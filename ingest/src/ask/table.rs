//! Rows with columns, written in any format as they come.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

use super::format::Format;
use super::text;

/// Rows of a row group of a Parquet answer: what its writer holds at once.
const ROW_GROUP_ROWS: usize = 64 * 1024;

/// A table under way.
pub(super) struct Table<'a> {
    schema: Arc<Schema>,
    to: To<'a>,
}

enum To<'a> {
    Json { out: &'a mut (dyn Write + Send), rows: u64 },
    Ndjson(&'a mut (dyn Write + Send)),
    Csv(Box<csv::Writer<&'a mut (dyn Write + Send)>>),
    Arrow(Box<StreamWriter<&'a mut (dyn Write + Send)>>),
    Parquet(Box<ArrowWriter<&'a mut (dyn Write + Send)>>),
}

impl<'a> Table<'a> {
    /// Begins one. `about` goes before the rows where the format has a place for it, and `name` is
    /// what the rows are called there.
    pub(super) fn begin(
        format: Format,
        schema: Arc<Schema>,
        about: &Map<String, Value>,
        name: &str,
        out: &'a mut (dyn Write + Send),
    ) -> io::Result<Self> {
        let to = match format {
            Format::Json => {
                begin_object(about, name, out)?;
                To::Json { out, rows: 0 }
            }
            Format::Ndjson => To::Ndjson(out),
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(schema.fields().iter().map(|field| field.name()))
                    .map_err(of_csv)?;
                To::Csv(Box::new(csv))
            }
            Format::Arrow => {
                let writer = StreamWriter::try_new(out, &schema).map_err(of_arrow)?;
                To::Arrow(Box::new(writer))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_created_by(concat!("loushan ", env!("CARGO_PKG_VERSION")).to_owned())
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties));
                To::Parquet(Box::new(writer.map_err(of_parquet)?))
            }
        };
        Ok(Self { schema, to })
    }

    /// Some rows more, with the columns it was begun with.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        debug_assert_eq!(batch.schema(), self.schema);
        match &mut self.to {
            To::Json { out, rows } => {
                let mut line = String::new();
                for row in 0..batch.num_rows() {
                    line.clear();
                    line.push(if *rows == 0 { '\n' } else { ',' });
                    if *rows > 0 {
                        line.push('\n');
                    }
                    text::object(batch, row, &mut line);
                    out.write_all(line.as_bytes())?;
                    *rows += 1;
                }
                Ok(())
            }
            To::Ndjson(out) => {
                let mut line = String::new();
                for row in 0..batch.num_rows() {
                    line.clear();
                    text::object(batch, row, &mut line);
                    line.push('\n');
                    out.write_all(line.as_bytes())?;
                }
                Ok(())
            }
            To::Csv(csv) => {
                let mut cell = String::new();
                for row in 0..batch.num_rows() {
                    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
                        cell.clear();
                        text::cell(field.name(), &**column, row, &mut cell);
                        csv.write_field(&cell).map_err(of_csv)?;
                    }
                    csv.write_record(None::<&[u8]>).map_err(of_csv)?;
                }
                Ok(())
            }
            To::Arrow(arrow) => arrow.write(batch).map_err(of_arrow),
            To::Parquet(parquet) => parquet.write(batch).map_err(of_parquet),
        }
    }

    /// Ends it; `more` goes behind the rows where the format has a place for it.
    pub(super) fn end(self, more: &Map<String, Value>) -> io::Result<()> {
        match self.to {
            To::Json { out, .. } => end_object(more, out),
            To::Ndjson(out) => out.flush(),
            To::Csv(mut csv) => csv.flush(),
            To::Arrow(mut arrow) => arrow.finish().map_err(of_arrow),
            To::Parquet(parquet) => parquet.into_inner().map_err(of_parquet)?.flush(),
        }
    }
}

/// Begins an object, up to the beginning of its list of rows.
pub(super) fn begin_object(
    about: &Map<String, Value>,
    name: &str,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    out.write_all(b"{")?;
    for (key, value) in about {
        write!(out, "{}:{value},", Value::from(key.as_str()))?;
    }
    write!(out, "{}:[", Value::from(name))
}

/// Ends an object whose list of rows is done.
pub(super) fn end_object(
    more: &Map<String, Value>,
    out: &mut (dyn Write + Send),
) -> io::Result<()> {
    out.write_all(b"]")?;
    for (key, value) in more {
        write!(out, ",{}:{value}", Value::from(key.as_str()))?;
    }
    out.write_all(b"}\n")?;
    out.flush()
}

fn of_csv(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn of_arrow(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => io::Error::other(other),
    }
}

fn of_parquet(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
