//! `/api/v1/fields`: the field table, with units and names for people.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use loushan_schemas::field::{EnumTable, Field, FieldType, Range};
use loushan_schemas::kind::Kind;
use loushan_schemas::label;
use loushan_schemas::quality::QualityReason;
use loushan_schemas::reject::RejectReason;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::devices::labelled;
use super::error::ApiError;
use super::params::Params;
use crate::sink::embedded::is_numeric;

/// The answer, which is the same as long as the process lives, and its tag.
static TABLE: LazyLock<(Bytes, String)> = LazyLock::new(|| {
    let text = table().to_string();
    let tag = format!("\"{:032x}\"", xxh3_128(text.as_bytes()));
    (Bytes::from(text), tag)
});

/// `GET /api/v1/fields`.
pub(super) async fn get(headers: HeaderMap, params: Params) -> Result<Response, ApiError> {
    params.only(&[])?;
    let (body, tag) = &*TABLE;
    let about = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "private, max-age=3600")];
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == tag.as_bytes());
    if known {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((about, json, body.clone()).into_response())
}

fn table() -> Value {
    let kinds: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let common = kind.common_fields().iter().map(|field| (field, true));
            let own = kind.fields().iter().map(|field| (field, false));
            let fields = own.chain(common).map(|(field, common)| described(field, common));
            json!({
                "kind": kind.as_str(),
                "label": labelled(label::kind(kind.as_str())),
                "fields": fields.collect::<Vec<_>>(),
            })
        })
        .collect();
    let qualities = (1..=4_u8)
        .rev()
        .map(|number| json!({ "quality": number, "label": labelled(label::quality(number)) }));
    let reasons = QualityReason::ALL.iter().map(|reason| {
        json!({ "reason": reason.as_str(), "label": labelled(label::reason(reason.as_str())) })
    });
    let rejects = RejectReason::ALL.iter().map(|reason| {
        json!({ "reason": reason.as_str(), "label": labelled(label::reject(reason.as_str())) })
    });
    json!({
        "kinds": kinds,
        "qualities": qualities.collect::<Vec<_>>(),
        "reasons": reasons.collect::<Vec<_>>(),
        "rejects": rejects.collect::<Vec<_>>(),
    })
}

fn described(field: &Field, common: bool) -> Value {
    let (ty, words) = match field.ty {
        FieldType::Int => ("int", None),
        FieldType::Float => ("float", None),
        FieldType::Bool => ("bool", None),
        FieldType::Enum(table) => ("enum", Some(table)),
        FieldType::EnumList(table) => ("enum_list", Some(table)),
        FieldType::IntList => ("int_list", None),
    };
    let range = |range: Option<Range>| range.map(|range| [range.low, range.high]);
    let mut described = json!({
        "field": field.name,
        "label": labelled(label::field(field.name)),
        "unit": label::unit(field.name),
        "type": ty,
        "counter": field.counter.is_some(),
        "common": common,
        "numeric": is_numeric(field),
        "hard": range(field.hard),
        "plausible": range(field.plausible),
    });
    if let (Some(table), Some(described)) = (words, described.as_object_mut()) {
        described.insert("words".to_owned(), words_of(table));
    }
    described
}

fn words_of(table: &EnumTable) -> Value {
    let word = |(_, word): &(i32, &'static str)| json!({ "word": word, "label": labelled(label::word(word)) });
    table.values.iter().map(word).collect()
}
