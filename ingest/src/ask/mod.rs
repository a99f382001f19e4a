//! Questions in words, and answers in formats: what HTTP and the command line have in common.
//!
//! A question comes as names and values ([`Given`]) and is parsed whole before anything is read; what
//! is wrong with it is said by parameter, value and remedy ([`BadParameter`]). [`answer`] then reads
//! the store and writes the answer as it goes, in bounded memory, to wherever it is to go. An error
//! after the first bytes must break the answer off, so that a part is never taken for the whole.

use std::io;
use std::sync::Arc;

use crate::registry::Registry;
use crate::sink::embedded::{QueryError, Store};

mod answer;
mod format;
mod given;
mod latest;
mod page;
mod parameters;
mod question;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use answer::answer;
pub use format::Format;
pub use given::{BadParameter, Given, time};
pub use question::{Asked, Question, What};

/// Where a question is answered from.
#[derive(Debug, Clone)]
pub struct Place {
    /// The store.
    pub store: Store,
    /// What is known of devices now; a store that no service runs on has none.
    pub registry: Option<Arc<Registry>>,
    /// Now, in Unix milliseconds.
    pub now_ms: i64,
}

/// A question was not answered, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The store could not answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// What was asked cannot be answered like that.
    #[error(transparent)]
    Parameter(#[from] BadParameter),
    /// There is nothing of what was asked for.
    #[error("{0}")]
    Nothing(String),
    /// The answer could not be written to where it was to go.
    #[error("the answer cannot be written: {0}")]
    Write(#[from] io::Error),
}
