//! Questions to the store: parsed, answered on a thread of their own, streamed.
//!
//! The thread writes chunks of [`CHUNK_BYTES`] into a queue of [`CHUNKS`] and waits with it for the
//! client. The first chunk decides the status: an error before it is answered as one, an error behind
//! it breaks the connection off, so that a part is never taken for the whole. When the client goes
//! away, the time is up or the service stops, the thread ends before its next batch of rows.
//!
//! A question that may read much runs at a lower priority than everything else, and in turns with
//! the others of its kind ([`Turns`]): however many are asked, a core is left to the devices.
//!
//! [`Turns`]: crate::sink::embedded::Turns

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::App;
use super::auth::{Caller, Reader};
use super::error::ApiError;
use super::params::Params;
use super::routes::Routes;
use super::view::View;
use crate::ask::{self, AskError, Asked, BadParameter, Format, Given, Place, What};
use crate::live::Scope;
use crate::sink::embedded::{Bounds, QueryError, Stop};

/// Bytes that are handed on at once: large enough that a row costs no wake-up.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow client.
const CHUNKS: usize = 4;
/// How much a heavy question's thread is nicer than the others: the scheduler gives it what is left.
const NICE: i32 = 10;

pub(super) fn routes(routes: Routes) -> Routes {
    let all = |what: What| {
        get(
            move |State(app): State<App>,
                  Reader(caller): Reader,
                  headers: HeaderMap,
                  params: Params| {
                respond(app, caller, what, params.into(), headers)
            },
        )
    };
    let of = |what: What, name: &'static str| {
        get(
            move |State(app): State<App>,
                  Reader(caller): Reader,
                  Path(subject): Path<String>,
                  headers: HeaderMap,
                  params: Params| async move {
                let mut given: Given = params.into();
                // In front: were it among the parameters as well, it would be there twice.
                given.0.insert(0, (name.to_owned(), subject));
                respond(app, caller, what, given, headers).await
            },
        )
    };
    routes
        .on("/api/v1/latest", &["GET"], all(What::Latest))
        .on("/api/v1/history", &["GET"], all(What::History))
        .on("/api/v1/aggregate", &["GET"], all(What::Aggregate))
        .on("/api/v1/export", &["GET"], all(What::Export))
        .on("/api/v1/seen", &["GET"], all(What::Seen))
        .on("/api/v1/gaps", &["GET"], all(What::Gaps))
        .on("/api/v1/devices/{imei}/history", &["GET"], of(What::History, "device"))
        .on("/api/v1/devices/{imei}/seen", &["GET"], of(What::Seen, "device"))
        .on("/api/v1/devices/{imei}/gaps", &["GET"], of(What::Gaps, "device"))
        .on("/api/v1/stations/{station}/seen", &["GET"], of(What::Seen, "station"))
        .on("/api/v1/stations/{station}/gaps", &["GET"], of(What::Gaps, "station"))
}

/// Whoever watches one project asks about that one, whether it says so or not.
fn narrow(scope: &Scope, given: &mut Given) -> Result<(), ApiError> {
    let Some(own) = scope.project() else { return Ok(()) };
    match given.0.iter().find(|(name, _)| name == "project") {
        None => given.0.push(("project".to_owned(), own.to_owned())),
        Some((_, named)) if named == own => {}
        Some((_, named)) => {
            let error = "this project is not yours to see";
            return Err(ApiError::parameter("project", Some(named), error, own));
        }
    }
    Ok(())
}

/// Says which stations are those of the project that a question is about.
fn within(asked: &mut Asked, scope: &Scope, given: &Given, place: &Place) -> Result<(), ApiError> {
    let Some(project) = asked.project.clone() else { return Ok(()) };
    let stations = place.registry.as_ref().map(|registry| registry.stations_of(&project));
    let stations = stations.unwrap_or_default();
    if stations.is_empty() && *scope == Scope::City {
        let known = place.registry.as_ref().map(|it| it.projects(place.now_ms)).unwrap_or_default();
        let known: Vec<&str> = known.keys().map(String::as_str).collect();
        let error = "no station is of this project";
        return Err(ApiError::parameter("project", Some(&project), error, known.join(", ")));
    }
    asked.within(given, stations).map_err(bad)
}

async fn respond(
    app: App,
    caller: Caller,
    what: What,
    mut given: Given,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let place = app.view.place().ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "there is no store here that could be asked")
    })?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let accept = accept.and_then(Format::accepted);
    narrow(caller.scope(), &mut given)?;
    let mut asked = Asked::parse(what, &given, accept, place.now_ms).map_err(bad)?;
    within(&mut asked, caller.scope(), &given, &place)?;
    let permits = permits(&app, &asked).await?;
    let media_type = asked.format.media_type();
    let deadline = (!asked.is_export()).then(|| Instant::now() + app.query.timeout);
    let heavy = asked.is_heavy();
    let bounds = Bounds {
        stop: Stop::default(),
        memory: app.query.memory,
        turns: heavy.then(|| Arc::clone(&app.turns)),
    };
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let mut under_way =
        UnderWay { chunks, stop: bounds.stop.clone(), deadline, service: app.stop.clone() };
    let view = Arc::clone(&app.view);
    let (patience, runtime) = (app.query.timeout, Handle::current());
    let work = Work { view, place, asked, bounds, sender, permits, patience, runtime };
    work.start(heavy)?;
    let first = match under_way.next().await {
        Some(Ok(chunk)) => chunk,
        Some(Err(error)) => return Err(refused(&error)),
        None => {
            return Err(ApiError::internal(
                "the question could not be answered",
                &"its thread died",
            ));
        }
    };
    let rest = stream::unfold(Some((Some(first), under_way)), |state| async {
        let (first, mut under_way) = state?;
        if let Some(first) = first {
            if first.is_empty() {
                return None;
            }
            return Some((Ok(first), Some((None, under_way))));
        }
        match under_way.next().await {
            Some(Ok(chunk)) if chunk.is_empty() => None,
            Some(Ok(chunk)) => Some((Ok(chunk), Some((None, under_way)))),
            Some(Err(error)) => Some((Err(broken_off(&error)), None)),
            None => Some((Err(io::Error::other("the answer ended before its end")), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, media_type)], Body::from_stream(rest)).into_response())
}

/// The question's place among those that are answered; waited for no longer than an answer is.
async fn permits(app: &App, asked: &Asked) -> Result<Vec<OwnedSemaphorePermit>, ApiError> {
    let busy = |what| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, what).retry_soon();
    if asked.is_export() {
        let permit = Arc::clone(&app.exports).try_acquire_owned();
        return permit.map(|permit| vec![permit]).map_err(|_| busy("too many exports at a time"));
    }
    let waited = tokio::time::timeout(app.query.timeout, async {
        let mut permits = Vec::new();
        if asked.is_heavy() {
            permits.push(Arc::clone(&app.heavy).acquire_owned().await.ok()?);
        }
        permits.push(Arc::clone(&app.questions).acquire_owned().await.ok()?);
        Some(permits)
    });
    waited.await.ok().flatten().ok_or_else(|| busy("too many questions at a time"))
}

/// An answer under way, seen from the client. Dropped with the connection, it ends the thread.
struct UnderWay {
    /// An empty chunk is the end.
    chunks: mpsc::Receiver<Result<Bytes, AskError>>,
    stop: Stop,
    deadline: Option<Instant>,
    service: CancellationToken,
}

impl UnderWay {
    async fn next(&mut self) -> Option<Result<Bytes, AskError>> {
        loop {
            let deadline = self.deadline;
            let expired = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.service.cancelled() => {
                    self.stop.cancel();
                    return Some(Err(AskError::Query(QueryError::Cancelled)));
                }
                // Before a chunk: one is always ready for a client that reads slowly.
                () = expired => {
                    self.stop.expire();
                    self.deadline = None;
                }
                chunk = self.chunks.recv() => return chunk,
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A question on its way to its thread.
struct Work {
    view: Arc<dyn View>,
    place: Place,
    asked: Asked,
    bounds: Bounds,
    sender: mpsc::Sender<Result<Bytes, AskError>>,
    permits: Vec<OwnedSemaphorePermit>,
    /// How long the client may take nothing.
    patience: Duration,
    runtime: Handle,
}

impl Work {
    fn start(self, heavy: bool) -> Result<(), ApiError> {
        if !heavy {
            tokio::task::spawn_blocking(move || self.run());
            return Ok(());
        }
        // A thread of its own: priorities only go down, and the pool's threads are not only ours.
        let thread = std::thread::Builder::new().name("loushan-query".to_owned());
        let started = thread.spawn(move || {
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::debug!(%error, "a question runs at the priority of everything else");
            }
            self.run();
        });
        started.map(drop).map_err(|e| ApiError::internal("the question could not be asked", &e))
    }

    fn run(self) {
        let Self { view, place, asked, bounds, sender, permits, patience, runtime } = self;
        let begun = std::time::Instant::now();
        let to = Client { sender, patience, runtime };
        let mut chunks = Chunks { to: &to, chunk: Vec::new() };
        let answered = ask::answer(&place, &asked, &bounds, &mut chunks)
            .and_then(|()| Ok(chunks.send_what_is_left()?));
        metrics::histogram!("loushan_query_seconds").record(begun.elapsed());
        // Before the end is told: whoever asks again upon it finds the place free.
        drop((permits, place));
        if answered.is_ok() {
            // The end. A client that is gone needs none.
            drop(to.send(Bytes::new()));
        }
        if let Err(error) = answered {
            let how = match &error {
                AskError::Query(error) => {
                    view.note(error);
                    match error {
                        QueryError::TooLarge { .. } => "too_large",
                        QueryError::Expired => "expired",
                        QueryError::Cancelled => "cancelled",
                        _ => "failed",
                    }
                }
                AskError::Nothing(_) | AskError::Parameter(_) => "nothing",
                AskError::Write(_) => "cancelled",
            };
            metrics::counter!("loushan_queries_unanswered_total", "reason" => how).increment(1);
            // A client that is gone, or takes nothing, needs no error: its answer breaks off.
            drop(to.sender.try_send(Err(error)));
        }
    }
}

/// Bytes on their way to the client.
struct Chunks<'a> {
    to: &'a Client,
    chunk: Vec<u8>,
}

/// The way to the client.
struct Client {
    sender: mpsc::Sender<Result<Bytes, AskError>>,
    patience: Duration,
    runtime: Handle,
}

impl Client {
    /// Waits for room, but not for a client that takes nothing: it would keep its place among those
    /// that are answered, and what the question holds of the store.
    fn send(&self, chunk: Bytes) -> io::Result<()> {
        let sent = self.sender.send_timeout(Ok(chunk), self.patience);
        match self.runtime.block_on(sent) {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(SendTimeoutError::Timeout(_)) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Chunks<'_> {
    fn send(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.to.send(chunk)
    }

    /// An empty chunk would be taken for the end.
    fn send_what_is_left(mut self) -> io::Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bad(bad: BadParameter) -> ApiError {
    ApiError::parameter(bad.parameter, bad.value.as_deref(), bad.error, bad.accepted)
}

/// An error before anything was answered.
fn refused(error: &AskError) -> ApiError {
    match error {
        AskError::Parameter(error) => bad(error.clone()),
        AskError::Nothing(what) => ApiError::new(StatusCode::NOT_FOUND, what.as_str()),
        AskError::Query(QueryError::TooLarge { limit, remedy }) => {
            let error = format!("the answer takes more than the {limit} bytes of query.memory");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error).accepting(*remedy)
        }
        AskError::Query(QueryError::Expired) => {
            let error = "the answer took longer than query.timeout";
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, error)
                .accepting("a shorter span of time, or fewer devices; or raise query.timeout")
        }
        AskError::Query(QueryError::Cancelled) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the service stops").retry_soon()
        }
        error => ApiError::internal("the store could not be read", error),
    }
}

/// An error within an answer.
fn broken_off(error: &AskError) -> io::Error {
    match error {
        AskError::Query(QueryError::Cancelled | QueryError::Expired) | AskError::Write(_) => {}
        error => tracing::error!(%error, "an answer failed midway"),
    }
    io::Error::other("the answer was broken off")
}
