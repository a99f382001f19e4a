//! The `loushan` binary: see `cli` for what it can be told.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
