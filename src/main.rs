//! The `loushan` binary.
fn main() {}
