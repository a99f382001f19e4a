//! SIGINT and SIGTERM: the first asks for an ordered stop, a later one ends the process at once.
//! SIGHUP: users and rights are read again.

use std::sync::Arc;
use std::time::Duration;

use loushan_broker::auth::Directory;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Within this time a signal is the first one again: `timeout` and some supervisors signal the process
/// and then its whole group, and nobody means two within a second.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Cancels the token at the first signal.
///
/// # Errors
/// When the signals cannot be caught.
pub(super) fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let first = stop.clone();
    // Lives as long as the runtime: it has to hear the second signal as well.
    tokio::spawn(async move {
        one_of(&mut interrupt, &mut terminate).await;
        tracing::info!("stopping; a second signal ends the process at once");
        first.cancel();
        let asked = Instant::now();
        loop {
            one_of(&mut interrupt, &mut terminate).await;
            if asked.elapsed() >= SAME_SIGNAL {
                break;
            }
        }
        // What was acknowledged is on disk; all that is lost is tidiness.
        eprintln!("loushan: ended by a second signal before everything was put in order");
        std::process::exit(1);
    });
    Ok(stop)
}

/// Reloads users and rights at each SIGHUP.
///
/// # Errors
/// When the signal cannot be caught.
pub(super) fn reload_on_hangup(directory: Arc<Directory>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let directory = Arc::clone(&directory);
            // Its error is logged and shown; a reload that panics is followed by the next one.
            let _shown = tokio::task::spawn_blocking(move || directory.reload()).await;
        }
    });
    Ok(())
}

async fn one_of(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
