//! What an answer means for what is done next.
//!
//! | answer | what is done |
//! |---|---|
//! | 204 | stored |
//! | no connection, 408, 425, 429, 5xx | again, after a pause that doubles, or the one that `Retry-After` names |
//! | broken off or out of time once there was a connection | the same; after some of these in a row half of the request at a time, for a server (or its proxy) that finds it too large may close before its 413 can be read |
//! | 413 | half of it at a time; later requests are smaller |
//! | 400, 422, 201 | some of the points are wrong: see [`BadPoints`] |
//! | 415 | the same lines uncompressed, from then on |
//! | 401, 403 | said aloud, and again at the longest pause, or as soon as `token_file` changes |
//! | 404 | the bucket is made if it is missing and may be made; otherwise as below |
//! | anything else (3xx, 405, a 200 that is no 204) | said aloud, and again at the longest pause: somebody must mend it |
//!
//! **201** is what InfluxDB Cloud Dedicated once said for a partial write. A **200** is no word of this
//! protocol: a portal or a proxy that answers everything so has stored nothing.
//!
//! InfluxDB's documents disagree on whether one bad point rejects a request (400) or only itself (422,
//! partial), and versions differ. Either way the good ones are sent again in smaller requests, and a
//! point stored twice is one point.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use serde_json::Value;

use super::http::{Broken, Phase, Reply};

/// How much of a server's words is kept.
const WORDS: usize = 300;
/// How many rejected lines are read out of an answer; servers name a hundred.
const LINES: usize = 1_000;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it is stored.
    Stored,
    /// Not now; why, and the pause the server asked for.
    Again(String, Option<Duration>),
    /// There was a connection and no answer; why.
    BrokeOff(String),
    /// The body was too large; the server's words.
    TooLarge(String),
    /// Something in it is wrong.
    BadPoints(BadPoints),
    /// The body must not be compressed; the server's words.
    Uncompressed(String),
    /// We may not; the server's words.
    Denied(String),
    /// What the URL or the bucket names is not there; the server's words.
    Missing(String),
    /// Something around it is wrong that trying again does not mend; what.
    Stop(String),
}

/// What a server says of points it does not take.
///
/// InfluxDB 3 lists lines by number, InfluxDB 2's siblings and QuestDB name one or some in their words.
/// What is said there is a hint: lists end after a hundred lines, and numbers may count otherwise
/// (`delivery`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BadPoints {
    /// The server's words for all of it.
    pub(super) words: String,
    /// Lines it names, counted from 0.
    pub(super) lines: BTreeMap<usize, NamedLine>,
}

/// What a server says of one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NamedLine {
    /// Its words for this line, if it has any of its own.
    pub(super) words: String,
    /// The line, repeated by the server in its own way and perhaps cut short, or nothing.
    pub(super) repeated: String,
}

impl Answer {
    /// Its metric label.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Again(..) => "again",
            Self::BrokeOff(_) => "broke_off",
            Self::TooLarge(_) => "too_large",
            Self::BadPoints(_) => "bad_points",
            Self::Uncompressed(_) => "uncompressed",
            Self::Denied(_) => "denied",
            Self::Missing(_) => "missing",
            Self::Stop(_) => "stop",
        }
    }
}

/// Puts the end of an exchange into its class. `now` is for a `Retry-After` that is a date, where the
/// server does not say what time it takes it to be.
pub(super) fn classify(exchange: Result<Reply, Broken>, now: SystemTime) -> Answer {
    let reply = match exchange {
        Ok(reply) => reply,
        Err(Broken { phase: Phase::Connecting, why }) => {
            return Answer::Again(shortened(&why), None);
        }
        Err(Broken { why, .. }) => return Answer::BrokeOff(shortened(&why)),
    };
    let text = String::from_utf8_lossy(&reply.body);
    let words = words(reply.status, &text);
    match reply.status {
        StatusCode::NO_CONTENT => Answer::Stored,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Answer::Again(words, retry_after(&reply.headers, now))
        }
        status if status.is_server_error() => {
            Answer::Again(words, retry_after(&reply.headers, now))
        }
        StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge(words),
        StatusCode::CREATED | StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            Answer::BadPoints(BadPoints { lines: rejected_lines(&text), words })
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Answer::Uncompressed(words),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::Denied(words),
        StatusCode::NOT_FOUND => Answer::Missing(words),
        status if status.is_redirection() => {
            let to = reply.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("?");
            let to = shortened(to);
            Answer::Stop(format!("{words} (it sends us to {to}; redirects are not followed)"))
        }
        _ => Answer::Stop(words),
    }
}

/// Status and message: that of a JSON answer, else all of it.
fn words(status: StatusCode, text: &str) -> String {
    let json: Option<Value> = serde_json::from_str(text).ok();
    let message = json.as_ref().and_then(|json| {
        let of = |key: &str| json.get(key)?.as_str().filter(|words| !words.is_empty());
        of("message").or_else(|| of("error"))
    });
    let words = format!("{} {}", status.as_u16(), shortened(message.unwrap_or(text)));
    words.trim_end().to_owned()
}

/// The lines an answer names, from 0.
fn rejected_lines(text: &str) -> BTreeMap<usize, NamedLine> {
    let mut lines = BTreeMap::new();
    let mut note = |number: u64, words: &str, repeated: &str| {
        if let Some(line) = number.checked_sub(1).and_then(|line| usize::try_from(line).ok())
            && lines.len() < LINES
        {
            let named = || NamedLine { words: shortened(words), repeated: repeated.to_owned() };
            lines.entry(line).or_insert_with(named);
        }
    };
    let Ok(json) = serde_json::from_str::<Value>(text) else {
        // QuestDB's words may hold raw line feeds, which is no JSON.
        named_lines(text, &mut note);
        return lines;
    };
    let data = json.get("data");
    let items = match data {
        Some(Value::Array(items)) => items.as_slice(),
        Some(item) => std::slice::from_ref(item),
        None => &[],
    };
    for item in items {
        let text = |key| item.get(key).and_then(Value::as_str).unwrap_or_default();
        if let Some(number) = item.get("line_number").and_then(Value::as_u64) {
            note(number, text("error_message"), text("original_line"));
        }
    }
    if let Some(message) = json.get("message").and_then(Value::as_str) {
        named_lines(message, &mut note);
    }
    if let Some(number) = json.get("line").and_then(Value::as_u64) {
        note(number, "", "");
    }
    lines
}

/// `… line 7 …: words` of each line of a text.
fn named_lines(text: &str, note: &mut impl FnMut(u64, &str, &str)) {
    for sentence in text.lines().take(LINES) {
        let Some((_, rest)) = sentence.split_once("line ") else { continue };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if let Some(number) = rest.get(..digits).and_then(|digits| digits.parse().ok()) {
            note(number, sentence.trim(), "");
        }
    }
}

/// The pause a server asks for, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let told = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !told.is_empty() && told.bytes().all(|b| b.is_ascii_digit()) {
        // More than a u64 holds is a very long time as well.
        return Some(Duration::from_secs(told.parse().unwrap_or(u64::MAX)));
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    // By the server's own clock, if it tells it: ours may be wrong.
    let base = headers.get(DATE).and_then(|it| it.to_str().ok()).and_then(date).unwrap_or(now);
    Some(date(told)?.duration_since(base).unwrap_or_default())
}

/// One line of bounded length, whatever the server wrote.
pub(super) fn shortened(text: &str) -> String {
    let printable = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(WORDS).collect()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
