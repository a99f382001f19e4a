//! Talking to the server through the `influxdb2` crate, around its hazards.
//!
//! * It panics on a URL that is none and drops a base path: [`InfluxConfig::check`] comes first.
//! * It has no time-outs: they are set on the reqwest client beneath it.
//! * It encodes points with allocations and gaps in escaping: it is given bytes of our own encoder.
//! * It compresses only what it encodes itself: compressed bodies go through a second client whose
//!   default headers say so.
//! * Its errors carry status and text but no headers, so `Retry-After` is not seen; our own pauses
//!   must do.
//! * A followed redirect would turn the POST into a GET: redirects are not followed.

use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use influxdb2::api::buckets::ListBucketsRequest;
use influxdb2::api::organization::ListOrganizationRequest;
use influxdb2::api::write::TimestampPrecision;
use influxdb2::models::PostBucketRequest;
use influxdb2::{Client, ClientBuilder, RequestError};
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

use super::InfluxError;
use super::config::InfluxConfig;
use super::retry::{Answer, classify};

/// Connections that stay open between requests: one writes, one looks for the bucket.
const IDLE_CONNECTIONS: usize = 2;
/// Servers and proxies close idle connections after a minute or so; ours go first, as a request on
/// a connection that is just being closed fails.
const IDLE: Duration = Duration::from_secs(20);

/// A client of one server, organisation and bucket.
#[derive(Debug)]
pub(super) struct InfluxClient {
    /// For everything but compressed bodies.
    plain: Client,
    /// For compressed bodies, if they are wanted.
    gzip: Option<Client>,
    org: String,
    bucket: String,
}

impl InfluxClient {
    /// Makes the client; nothing is sent yet.
    pub(super) fn new(config: &InfluxConfig) -> Result<Self, InfluxError> {
        config.check()?;
        let build = |headers: HeaderMap| {
            let http = reqwest::Client::builder()
                .connect_timeout(config.timeout)
                .timeout(config.timeout)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .redirect(reqwest::redirect::Policy::none())
                .default_headers(headers);
            ClientBuilder::with_builder(http, &config.url, &config.org, config.token.expose())
                .build()
                .map_err(|error| InfluxError::Client(error.to_string()))
        };
        let gzip = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
        Ok(Self {
            plain: build(HeaderMap::new())?,
            gzip: config.gzip.then(|| build(HeaderMap::from_iter(gzip))).transpose()?,
            org: config.org.clone(),
            bucket: config.bucket.clone(),
        })
    }

    /// Lines as they are sent, made once for all attempts.
    pub(super) async fn body(&self, lines: Bytes) -> Result<Bytes, InfluxError> {
        if self.gzip.is_none() {
            return Ok(lines);
        }
        let compressed = tokio::task::spawn_blocking(move || compress(&lines)).await;
        compressed
            .map_err(|_| InfluxError::Interrupted)?
            .map_err(|error| InfluxError::Client(format!("gzip: {error}")))
    }

    /// Sends a body of [`InfluxClient::body`] once.
    pub(super) async fn write(&self, body: Bytes) -> Answer {
        let client = self.gzip.as_ref().unwrap_or(&self.plain);
        let nanoseconds = TimestampPrecision::Nanoseconds;
        let write =
            client.write_line_protocol_with_precision(&self.org, &self.bucket, body, nanoseconds);
        write.await.map_or_else(|error| classify(&error), |()| Answer::Stored)
    }

    /// Waits for a server that is ready, and makes the bucket if it is missing. A server that knows
    /// no buckets (VictoriaMetrics), or does not let us see them, is no fault: writing will tell.
    ///
    /// # Errors
    /// Why to try again later.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        if let Err(error) = self.plain.ready().await {
            if let Answer::Again(why) = classify(&error) {
                return Err(why);
            }
            tracing::debug!(%error, "the server does not tell whether it is ready");
        }
        match self.make_bucket().await {
            Ok(true) => {
                tracing::info!(bucket = self.bucket, org = self.org, "bucket made");
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => match classify(&error) {
                Answer::Again(why) if !is_undecodable(&error) => Err(why),
                _ => {
                    tracing::info!(%error, bucket = self.bucket, "the server does not let us look for the bucket; writing all the same");
                    Ok(())
                }
            },
        }
    }

    /// Whether a bucket was made.
    async fn make_bucket(&self) -> Result<bool, RequestError> {
        let request = ListBucketsRequest {
            name: Some(self.bucket.clone()),
            org: Some(self.org.clone()),
            ..ListBucketsRequest::default()
        };
        let found = self.plain.list_buckets(Some(request)).await?;
        if found.buckets.iter().any(|bucket| bucket.name == self.bucket) {
            return Ok(false);
        }
        let mut request = ListOrganizationRequest::new();
        request.org = Some(self.org.clone());
        let found = self.plain.list_organizations(request).await?;
        let org = found.orgs.into_iter().find(|org| org.name == self.org).and_then(|org| org.id);
        let Some(org) = org else { return Ok(false) };
        let request = PostBucketRequest::new(org, self.bucket.clone());
        self.plain.create_bucket(Some(request)).await?;
        Ok(true)
    }
}

/// The server answered with something else than the list that was asked for.
fn is_undecodable(error: &RequestError) -> bool {
    matches!(error, RequestError::ReqwestProcessing { source } if source.is_decode())
}

/// gzip 1: level 6 costs three times the time for a third of the bytes.
fn compress(lines: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Compression::fast());
    encoder.write_all(lines)?;
    Ok(encoder.finish()?.into())
}
