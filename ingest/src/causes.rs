//! What an error says with all that caused it.

use std::error::Error;
use std::fmt;

/// An error and its causes in one line, outermost first.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut at = self.0.source();
        while let Some(cause) = at {
            write!(f, ": {cause}")?;
            at = cause.source();
        }
        Ok(())
    }
}
