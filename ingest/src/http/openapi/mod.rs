//! The API, described: `/api/v1/openapi.json`, and `/docs` to read it.
//!
//! One table says what operations there are, with their parameters and answers ([`table`]); shapes of
//! bodies stand in `schemas.json`. The document is made of both once, as OpenAPI 3.1 by `utoipa`'s
//! types. A test holds the table against the router, and schemathesis holds the document against the
//! running service (`tests/openapi.rs`). The page is a file of our own: it asks no other host, and obeys
//! a policy that would not let it.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use loushan_schemas::kind::Kind;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use super::error::ApiError;
use super::params::Params;

mod table;

use table::{Answer, OPERATIONS, Operation, Param, Shape};

/// The document, and what the parts of it that are no table of ours are.
static DOCUMENT: LazyLock<Result<Bytes, String>> = LazyLock::new(|| {
    let document: OpenApi = serde_json::from_value(document_of()).map_err(|e| e.to_string())?;
    document.to_json().map(Bytes::from).map_err(|e| e.to_string())
});

/// Shapes of bodies, by name.
const SCHEMAS: &str = include_str!("schemas.json");

const PAGE: &str = include_str!("docs.html");
const SCRIPT: &str = include_str!("docs.js");
const STYLE: &str = include_str!("docs.css");

/// What the browser may do with the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /api/v1/openapi.json`.
pub(super) async fn document(params: Params) -> Result<Response, ApiError> {
    params.only(&[])?;
    let failed = |e: &String| ApiError::internal("the document could not be made", e);
    let body = DOCUMENT.as_ref().map_err(failed)?.clone();
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `GET /docs`.
pub(super) async fn page(params: Params) -> Result<Response, ApiError> {
    params.only(&[])?;
    Ok(of_page("text/html; charset=utf-8", PAGE))
}

/// `GET /docs/{file}`: what the page is made of.
pub(super) async fn file(Path(name): Path<String>, params: Params) -> Result<Response, ApiError> {
    params.only(&[])?;
    match name.as_str() {
        "docs.js" => Ok(of_page("text/javascript; charset=utf-8", SCRIPT)),
        "docs.css" => Ok(of_page("text/css; charset=utf-8", STYLE)),
        _ => Err(ApiError::new(StatusCode::NOT_FOUND, "the page has no such file")
            .accepting("docs.js, docs.css")),
    }
}

fn of_page(media_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// Every operation in a line, for whoever asked for something that is not there.
pub(super) fn paths() -> String {
    let line = |operation: &Operation| {
        let names: Vec<String> = operation.query.iter().map(|it| format!("{}=", it.name)).collect();
        let query = if names.is_empty() { String::new() } else { format!("?{}", names.join("&")) };
        let method = if operation.method == "GET" { "" } else { " (POST)" };
        format!("{}{query}{method}", operation.path)
    };
    OPERATIONS.iter().map(line).collect::<Vec<_>>().join(", ")
}

fn document_of() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_lowercase(), described(operation));
        }
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Loushan",
            "description": "The telemetry front door of a city's NB-IoT pilot. Times are Unix \
                            milliseconds, errors say what was wrong and what is accepted.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of admin.token in the data folder, or a JSON Web Token.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Name and password of a user of the users file.",
                },
            },
        },
        "tags": table::TAGS.iter().map(|(name, description)| {
            json!({ "name": name, "description": description })
        }).collect::<Vec<_>>(),
    })
}

fn described(operation: &Operation) -> Value {
    let in_path = operation.in_path.iter().map(|param| parameter(param, "path"));
    let in_query = operation.query.iter().map(|param| parameter(param, "query"));
    let mut responses: Map<String, Value> = Map::new();
    for answer in operation.answers {
        responses.insert(answer.status.to_string(), response(answer));
    }
    // Parameters are refused by name everywhere, and everybody may be asked who he is.
    for (status, says) in table::errors_of(operation) {
        let answer = Answer { status, says, shape: Shape::Json("Error") };
        responses.entry(status.to_string()).or_insert_with(|| response(&answer));
    }
    let mut described = json!({
        "tags": [operation.tag],
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses,
        "security": security(operation),
    });
    if let (Some(body), Some(described)) = (operation.body, described.as_object_mut()) {
        let content = json!({ "application/json": { "schema": of_name(body) } });
        described.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    described
}

/// Who may ask: on loopback reading needs nothing, which is the empty requirement.
fn security(operation: &Operation) -> Value {
    match (operation.anybody, operation.method) {
        (true, _) => json!([]),
        (false, "GET") => json!([{ "bearer": [] }, { "basic": [] }, {}]),
        (false, _) => json!([{ "bearer": [] }, { "basic": [] }]),
    }
}

fn parameter(param: &Param, place: &str) -> Value {
    let required = param.required || place == "path";
    let mut described = json!({
        "name": param.name,
        "in": place,
        "required": required,
        "description": param.says,
        "schema": schema_of(param),
    });
    if let (Some(example), Some(described)) = (param.example, described.as_object_mut()) {
        described.insert("example".to_owned(), example.into());
    }
    described
}

fn schema_of(param: &Param) -> Value {
    use table::Type;
    let kinds = || Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>();
    match param.ty {
        Type::Text => json!({ "type": "string" }),
        Type::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
        Type::Words(words) => json!({ "type": "string", "enum": words }),
        Type::Kind => json!({ "type": "string", "enum": kinds() }),
        Type::Number(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
    }
}

fn of_name(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn response(answer: &Answer) -> Value {
    let content = match answer.shape {
        Shape::Nothing => return json!({ "description": answer.says }),
        Shape::Json(name) => json!({ "application/json": { "schema": of_name(name) } }),
        Shape::Bytes(media_types) => media_types
            .iter()
            .map(|media_type| ((*media_type).to_owned(), json!({})))
            .collect::<Map<String, Value>>()
            .into(),
        Shape::Table(name) => {
            let json = json!({ "schema": of_name(name) });
            let mut content = Map::from_iter([("application/json".to_owned(), json)]);
            for media_type in table::TABLES {
                content.insert((*media_type).to_owned(), json!({}));
            }
            content.into()
        }
    };
    json!({ "description": answer.says, "content": content })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_describes_every_operation_of_the_router_and_no_other() {
        let routes = crate::http::routes();
        let routed: BTreeSet<(&str, &str)> = routes.operations().iter().copied().collect();
        let described: BTreeSet<(&str, &str)> =
            OPERATIONS.iter().map(|operation| (operation.method, operation.path)).collect();
        assert_eq!(routed, described);
        assert_eq!(described.len(), OPERATIONS.len(), "one of them is there twice");
    }

    #[test]
    fn the_document_is_one_by_utoipas_types_and_names_no_schema_that_is_not_there() {
        let document = DOCUMENT.as_ref().unwrap();
        let document: Value = serde_json::from_slice(document).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        let named: BTreeSet<&str> = text
            .split("#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let there: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(named, there, "named, and there");
        assert_eq!(document["paths"].as_object().unwrap().len(), {
            OPERATIONS.iter().map(|it| it.path).collect::<BTreeSet<_>>().len()
        });
    }

    #[test]
    fn parameters_of_a_path_are_those_in_its_braces_and_ids_are_there_once() {
        let mut ids = BTreeSet::new();
        for operation in OPERATIONS {
            assert!(ids.insert(operation.id), "{}", operation.id);
            let named: Vec<&str> = operation
                .path
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split('}').next())
                .collect();
            let told: Vec<&str> = operation.in_path.iter().map(|param| param.name).collect();
            assert_eq!(named, told, "{}", operation.path);
            assert!(table::TAGS.iter().any(|(tag, _)| *tag == operation.tag), "{}", operation.tag);
        }
    }
}
