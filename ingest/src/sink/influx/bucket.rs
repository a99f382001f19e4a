//! Making the bucket, where the server says that it has none of that name and knows buckets at all.
//!
//! Only asked after a 404: servers without buckets, or whose token may only write, are never asked.
//! The API's types are those of the `influxdb2` crate.

use hyper::{Method, StatusCode};
use influxdb2::models::{Buckets, Organizations, PostBucketRequest};
use serde::de::DeserializeOwned;

use super::answer::shortened;
use super::http::{Broken, Content, Http, Reply};
use super::token::Credentials;

/// Whose bucket.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) org: String,
    pub(super) bucket: String,
}

/// Makes the bucket unless it is there; whether it was made.
///
/// # Errors
/// Why it was not.
pub(super) async fn make_missing(
    http: &Http,
    credentials: &Credentials,
    place: &Place,
) -> Result<bool, String> {
    let (org, bucket) = (place.org.as_str(), place.bucket.as_str());
    let call = Call { http, credentials };
    let found: Buckets = call.get("buckets", &[("org", org), ("name", bucket)]).await?;
    if found.buckets.iter().any(|it| it.name == bucket) {
        return Ok(false);
    }
    let found: Organizations = call.get("orgs", &[("org", org)]).await?;
    let id = found.orgs.into_iter().find(|it| it.name == org).and_then(|it| it.id);
    let id = id.ok_or_else(|| format!("the server has no organisation {org:?}"))?;
    // No retention rule: nothing expires that nobody said may.
    let request = PostBucketRequest::new(id, bucket.to_owned());
    let bytes = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    let content =
        Content { bytes: bytes.into(), kind: Some("application/json"), ..Content::default() };
    let reply = call.send(Method::POST, "buckets", &[], content).await?;
    match reply.status {
        StatusCode::CREATED => Ok(true),
        _ => Err(said("it does not make the bucket", &reply)),
    }
}

struct Call<'a> {
    http: &'a Http,
    credentials: &'a Credentials,
}

impl Call<'_> {
    async fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        query: &[(&str, &str)],
    ) -> Result<T, String> {
        let reply = self.send(Method::GET, what, query, Content::default()).await?;
        if reply.status != StatusCode::OK {
            return Err(said(&format!("it does not list {what}"), &reply));
        }
        serde_json::from_slice(&reply.body)
            .map_err(|e| format!("its list of {what} cannot be read: {e}"))
    }

    async fn send(
        &self,
        method: Method,
        what: &str,
        query: &[(&str, &str)],
        content: Content,
    ) -> Result<Reply, String> {
        let url = self.http.url(&["api", "v2", what], query);
        let authorization = self.credentials.header().await?;
        let sent = self.http.exchange(method, &url, authorization, content).await;
        sent.map_err(|Broken { why, .. }| shortened(&why))
    }
}

fn said(what: &str, reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    format!("{what}: {} {}", reply.status.as_u16(), shortened(&text))
}
