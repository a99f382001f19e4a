//! Every error is JSON that says what was wrong and what is accepted.

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Body,
    header: Option<(HeaderName, &'static str)>,
}

#[derive(Debug, Serialize)]
struct Body {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let body = Body { error: error.into(), parameter: None, value: None, accepted: None };
        Self { status, body, header: None }
    }

    /// A parameter is wrong; its value is echoed shortened.
    pub(super) fn parameter(
        parameter: impl Into<String>,
        value: Option<&str>,
        error: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        let mut it = Self::new(StatusCode::BAD_REQUEST, error).accepting(accepted);
        it.body.parameter = Some(parameter.into());
        it.body.value = value.map(|text| text.chars().take(60).collect());
        it
    }

    /// Adds what would have been accepted.
    pub(super) fn accepting(mut self, accepted: impl Into<String>) -> Self {
        self.body.accepted = Some(accepted.into());
        self
    }

    /// The other side should come again soon.
    pub(super) fn retry_soon(mut self) -> Self {
        self.header = Some((header::RETRY_AFTER, "1"));
        self
    }

    /// What failed is ours. The whole of it goes to the log, a short word to the client.
    pub(super) fn internal(what: &'static str, why: &dyn std::fmt::Display) -> Self {
        tracing::error!(what, error = %why, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}; see the service's log"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
        }
        response
    }
}
