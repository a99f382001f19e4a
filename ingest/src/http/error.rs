//! Every error is JSON that says what was wrong and what is accepted.

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An answer that is an error. Boxed, because nearly every answer is none.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
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
        Self(Box::new(Inner { status, body, header: None }))
    }

    /// A parameter is wrong; its value is echoed shortened.
    pub(super) fn parameter(
        parameter: impl Into<String>,
        value: Option<&str>,
        error: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        let mut it = Self::new(StatusCode::BAD_REQUEST, error).accepting(accepted);
        it.0.body.parameter = Some(parameter.into());
        it.0.body.value = value.map(|text| text.chars().take(60).collect());
        it
    }

    /// Adds what would have been accepted.
    pub(super) fn accepting(mut self, accepted: impl Into<String>) -> Self {
        self.0.body.accepted = Some(accepted.into());
        self
    }

    /// The other side should come again soon.
    pub(super) fn retry_soon(self) -> Self {
        self.with(header::RETRY_AFTER, "1")
    }

    /// With a header.
    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// The status, as a label.
    pub(super) fn status_label(&self) -> &'static str {
        match self.0.status {
            StatusCode::UNAUTHORIZED => "401",
            StatusCode::FORBIDDEN => "403",
            StatusCode::TOO_MANY_REQUESTS => "429",
            StatusCode::SERVICE_UNAVAILABLE => "503",
            _ => "400",
        }
    }

    /// What failed is ours. The whole of it goes to the log, a short word to the client.
    pub(super) fn internal(what: &'static str, why: &dyn std::fmt::Display) -> Self {
        tracing::error!(what, error = %why, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}; see the service's log"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { status, body, header } = *self.0;
        let mut response = (status, Json(body)).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
        }
        response
    }
}
