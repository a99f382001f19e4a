//! Any text is read or refused, and whatever is said about it, a secret is not.

use super::Config;

/// Not a word that any text would hold by chance.
const SECRET: &str = "hunter2-0451-tls";

pub(crate) fn read(data: &[u8]) {
    let Some((&how, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let environment = ("LOUSHAN__SINK__INFLUX__TOKEN".to_owned(), SECRET.to_owned());
    let (file, environment) = match how % 4 {
        0 => (text.into_owned(), None),
        1 => (text.into_owned(), Some(environment)),
        // What follows cannot make another key's value of it.
        2 => (format!("[sink.influx]\ntoken = \"{SECRET}\"\n{text}"), None),
        _ => (format!("[sink.influx]\ntoken = \"{SECRET}{text}"), None),
    };
    let given = how % 4 != 0;
    let shown = match Config::read(Some(&file), environment) {
        Ok(config) => format!("{config:?}"),
        Err(faults) => {
            assert!(!faults.0.is_empty(), "refused without a reason");
            format!("{faults}\n{faults:?}")
        }
    };
    assert!(!given || !shown.contains(SECRET), "a secret is shown: {shown}");
}
