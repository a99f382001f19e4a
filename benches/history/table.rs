pub(crate) fn print(filled: &crate::fill::Filled, _: &crate::questions::Answers, _: Option<&crate::beside::Beside>) {
    println!("{} readings to {} in {:?} {:?}", filled.readings, filled.end_ms, filled.took, filled.store);
}
