//! Exports: newline-delimited JSON, streamed in bounded memory.
//!
//! A blocking thread reads and hands on chunks of [`CHUNK_BYTES`]; at most [`CHUNKS`] wait for the
//! client, and the thread waits with them. A client that goes away ends the reading at its next
//! chunk, a service that stops ends it at once. When reading fails midway the connection is broken
//! off, so that a client never takes a part for the whole.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use loushan_schemas::row::Row;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::App;
use super::error::ApiError;
use super::view::{View, ViewError};

/// Bytes after which lines are handed on: large enough that a row costs no wake-up.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow client.
const CHUNKS: usize = 4;

/// Which export.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Rows,
    DeadLetters,
}

/// Starts an export above `after_lsn`.
pub(super) fn start(app: &App, what: What, after_lsn: u64) -> Result<Response, ApiError> {
    let permit = Arc::clone(&app.exports).try_acquire_owned().map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many exports at a time").retry_soon()
    })?;
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let view = Arc::clone(&app.view);
    let stop = app.stop.clone();
    // Ends by itself: when all is read, when the client is gone, or when the service stops.
    tokio::task::spawn_blocking(move || {
        let mut lines = Lines { chunk: String::new(), sender, stop };
        let ended = lines.read(&*view, what, after_lsn);
        lines.end(ended);
        drop(permit);
    });
    let chunks = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(chunks)).into_response())
}

struct Lines {
    chunk: String,
    sender: mpsc::Sender<io::Result<Bytes>>,
    stop: CancellationToken,
}

impl Lines {
    fn read(&mut self, view: &dyn View, what: What, after_lsn: u64) -> Result<(), ViewError> {
        match what {
            What::Rows => view.export_rows(after_lsn, &mut |row: &Row| {
                row.write_json(&mut self.chunk);
                self.line_done()
            }),
            What::DeadLetters => view.export_dead_letters(after_lsn, &mut |line: &str| {
                self.chunk.push_str(line);
                self.line_done()
            }),
        }
    }

    fn line_done(&mut self) -> ControlFlow<()> {
        self.chunk.push('\n');
        if self.stop.is_cancelled() {
            return ControlFlow::Break(());
        }
        if self.chunk.len() < CHUNK_BYTES { ControlFlow::Continue(()) } else { self.hand_on() }
    }

    fn hand_on(&mut self) -> ControlFlow<()> {
        let chunk = std::mem::take(&mut self.chunk);
        match self.sender.blocking_send(Ok(Bytes::from(chunk))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(()),
        }
    }

    fn end(mut self, read: Result<(), ViewError>) {
        let broken = match read {
            Err(e) => {
                tracing::error!(error = %e, "an export failed midway");
                Some(io::Error::other("the export failed midway"))
            }
            Ok(()) if self.stop.is_cancelled() => Some(io::Error::other("the service stops")),
            Ok(()) => None,
        };
        match broken {
            // A client that is gone needs no error.
            Some(e) => drop(self.sender.blocking_send(Err(e))),
            None if !self.chunk.is_empty() => {
                let _client_may_be_gone = self.hand_on();
            }
            None => {}
        }
    }
}
