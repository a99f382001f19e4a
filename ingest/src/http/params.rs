//! Query parameters, parsed: unknown, doubled and malformed ones are refused by name.

use std::ops::RangeInclusive;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use loushan_schemas::kind::Kind;
use loushan_schemas::time::DeviceTime;

use super::error::ApiError;
use super::view::Span;
use crate::ask::{Given, time};

/// What a time parameter may be.
const TIME: &str = "RFC 3339 such as 2026-03-01T08:00:00Z, or Unix milliseconds";

/// The query's parameters as they came.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::parameter("query", None, e.body_text(), "name=value pairs"))?;
        Ok(Self(pairs.0))
    }
}

impl Params {
    /// Refuses parameters that are not among `known`, and those that come twice.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let accepted = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            if !known.contains(&name.as_str()) {
                let error = "there is no such parameter";
                let name: String = name.chars().take(60).collect();
                return Err(ApiError::parameter(name, Some(value), error, accepted));
            }
            if self.0.iter().skip(i + 1).any(|(other, _)| other == name) {
                let error = "the parameter is given twice";
                return Err(ApiError::parameter(name, Some(value), error, "one of each"));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A whole number.
    pub(super) fn number(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ApiError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().ok().filter(|n| range.contains(n)).ok_or_else(|| {
            let accepted = format!("a whole number from {} to {}", range.start(), range.end());
            ApiError::parameter(name, Some(text), "the value is not accepted", accepted)
        })
    }

    /// A kind of readings.
    pub(super) fn kind(&self) -> Result<Option<Kind>, ApiError> {
        let Some(text) = self.get("kind") else { return Ok(None) };
        Kind::from_text(text).map(Some).ok_or_else(|| {
            let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            ApiError::parameter("kind", Some(text), "there is no such kind", words.join(", "))
        })
    }

    /// `from` and `to`; each may be left out and then bounds nothing.
    pub(super) fn span(&self) -> Result<Span, ApiError> {
        let from = self.time("from")?.unwrap_or(DeviceTime::EPOCH);
        let to = self.time("to")?.unwrap_or(DeviceTime::LAST);
        if from > to {
            let error = "the span ends before it begins";
            return Err(ApiError::parameter("to", self.get("to"), error, "a time not before from"));
        }
        Ok(Span { from, to })
    }

    pub(super) fn time(&self, name: &'static str) -> Result<Option<DeviceTime>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        time(text)
            .map(Some)
            .ok_or_else(|| ApiError::parameter(name, Some(text), "the value is not a time", TIME))
    }
}

/// All of them, for a question to the store.
impl From<Params> for Given {
    fn from(params: Params) -> Self {
        Self(params.0)
    }
}
