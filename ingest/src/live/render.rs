//! A tick's events as bytes, rendered when the first client wants them and shared by all of a scope.

use std::fmt::Write as _;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::stations::StationNow;
use super::{Live, Scope, Tick};

/// What there is of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    City,
    Changed,
    Full,
}

/// What has been rendered of a tick.
#[derive(Debug, Default)]
pub(super) struct Rendered(Mutex<HashMap<(Scope, Part), Option<Bytes>>>);

/// An event. `data` has no line break.
pub(super) fn event(id: u64, name: &str, data: &str) -> Bytes {
    Bytes::from(format!("id: {id}\nevent: {name}\ndata: {data}\n\n"))
}

impl Tick {
    fn part(
        &self,
        scope: &Scope,
        part: Part,
        make: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Bytes> {
        // Under the lock, so that of many clients one renders.
        let mut rendered = self.rendered.0.lock();
        rendered.entry((scope.clone(), part)).or_insert_with(make).clone()
    }

    /// The event of the figures.
    pub(super) fn city_event(&self, scope: &Scope) -> Option<Bytes> {
        let make = || Some(event(self.number, "city", &self.figures(scope).to_string()));
        self.part(scope, Part::City, make)
    }

    /// The event of the stations that changed with this tick; `None` where none did.
    pub(super) fn changes_event(&self, scope: &Scope) -> Option<Bytes> {
        self.part(scope, Part::Changed, || {
            let data = self.stations_json(scope, false)?;
            Some(event(self.number, "stations", &data))
        })
    }

    /// The event of all stations.
    pub(super) fn full_event(&self, scope: &Scope) -> Option<Bytes> {
        self.part(scope, Part::Full, || {
            let data = self.stations_json(scope, true)?;
            Some(event(self.number, "stations", &data))
        })
    }

    /// The first event: everything there is to know now.
    pub(super) fn hello_event(&self, live: &Live, scope: &Scope) -> Bytes {
        let stations = self.stations_json(scope, true).unwrap_or_else(|| "null".to_owned());
        let text = |value: serde_json::Value| value.to_string();
        let data = format!(
            "{{\"at_ms\":{},\"tick\":{},\"version\":\"{}\",\"started_ms\":{},\"scope\":{},\"city\":{},\
             \"history\":{},\"stations\":{stations}}}",
            self.at_ms,
            self.number,
            env!("CARGO_PKG_VERSION"),
            live.started_ms(),
            text(scope.project().into()),
            self.figures(scope),
            live.history(scope),
        );
        event(self.number, "hello", &data)
    }

    /// The stations, all or those that changed; `None` where none of them is to be told.
    fn stations_json(&self, scope: &Scope, full: bool) -> Option<String> {
        let mut data = format!(
            "{{\"tick\":{},\"full\":{full},\"columns\":[\"station\",\"state\",\"rate\",\
             \"last_heard_ms\"],\"rows\":[",
            self.number
        );
        let begun = data.len();
        let wanted = |station: &&StationNow| {
            (full || station.changed) && scope.covers(station.project.as_deref())
        };
        for station in self.stations.iter().filter(wanted) {
            if data.len() > begun {
                data.push(',');
            }
            row(station, &mut data);
        }
        if data.len() == begun && !full {
            return None;
        }
        data.push_str("]}");
        Some(data)
    }
}

/// One station. Its name needs no escape.
fn row(station: &StationNow, out: &mut String) {
    let told = station.told;
    let (whole, tenth) = (told.rate / 10, told.rate % 10);
    let state = told.state.as_str();
    let written = write!(out, "[\"{}\",\"{state}\",{whole}.{tenth},", station.name);
    let written = written.and_then(|()| match told.last_heard_ms {
        Some(ms) => write!(out, "{ms}]"),
        None => out.write_str("null]"),
    });
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}
