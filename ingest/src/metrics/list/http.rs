//! The HTTP side, and questions to the store.

use super::{Metric, counter, gauge, label, seconds};

pub(super) const METRICS: &[Metric] = &[
    gauge("loushan_http_connections", "connections", "Open HTTP connections.")
        .bounded("http.max_connections"),
    counter(
        "loushan_http_connections_refused_total",
        "connections",
        "HTTP connections closed as they came: too many.",
    )
    .alert("increase(loushan_http_connections_refused_total[10m]) > 0"),
    counter(
        "loushan_http_requests_total",
        "requests",
        "HTTP requests, by the class of their status.",
    )
    .by(&[label("status", &["1xx", "2xx", "3xx", "4xx", "5xx"])])
    .alert("rate(loushan_http_requests_total{status=\"5xx\"}[5m]) > 0"),
    seconds("loushan_http_request_seconds", "From a request to the head of its answer."),
    counter(
        "loushan_http_refused_total",
        "requests",
        "HTTP requests refused before they were heard, by status.",
    )
    .by(&[label("status", &["400", "401", "403", "429", "503"])])
    .means("Wrong credentials, missing rights, pages of other origins."),
    seconds(
        "loushan_query_seconds",
        "How long a question to the store took, its receiver included.",
    ),
    counter(
        "loushan_queries_unanswered_total",
        "questions",
        "Questions without an answer, or not to its end, by why.",
    )
    .by(&[label("reason", &["too_large", "expired", "cancelled", "failed", "nothing"])])
    .means("`too_large`: `query.memory`. `expired`: `query.timeout`. `failed`: the store.")
    .alert("increase(loushan_queries_unanswered_total{reason=\"failed\"}[10m]) > 0"),
];
