//! The formats of answers.

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object, with what the answer is about and as of when.
    Json,
    /// A line for each row, under a line of names.
    Csv,
    /// One object a line.
    Ndjson,
    /// Arrow's IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("json", Self::Json),
        ("csv", Self::Csv),
        ("ndjson", Self::Ndjson),
        ("arrow", Self::Arrow),
        ("parquet", Self::Parquet),
    ];

    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The first of a list of media types, as in `Accept`, that is one of ours.
    #[must_use]
    pub fn accepted(list: &str) -> Option<Self> {
        list.split(',').find_map(|item| {
            let media = item.split(';').next().unwrap_or_default().trim();
            let of = |format: &Self| format.media_type().split(';').next() == Some(media);
            Self::WORDS.into_iter().map(|(_, format)| format).find(of)
        })
    }

    /// Whether all its rows have the same columns, so that they have to be of one kind.
    #[must_use]
    pub const fn is_table(self) -> bool {
        matches!(self, Self::Csv | Self::Arrow | Self::Parquet)
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn of_what_is_accepted_the_first_that_we_have_is_taken() {
        assert_eq!(Format::accepted("text/html, text/csv;q=0.9, */*"), Some(Format::Csv));
        assert_eq!(Format::accepted("application/json"), Some(Format::Json));
        assert_eq!(Format::accepted("*/*"), None);
        assert_eq!(Format::accepted(""), None);
    }
}
