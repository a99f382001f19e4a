pub(crate) struct Beside;
pub(crate) fn ask(_: &std::path::Path, _: &crate::fill::Filled) -> Option<Beside> { None }
