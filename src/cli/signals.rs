//! SIGINT and SIGTERM: the first asks for an ordered stop, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

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
        one_of(&mut interrupt, &mut terminate).await;
        // What was acknowledged is on disk; all that is lost is tidiness.
        eprintln!("loushan: ended by a second signal before everything was put in order");
        std::process::exit(1);
    });
    Ok(stop)
}

async fn one_of(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
