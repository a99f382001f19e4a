//! Recording: what a live broker's subscribers see, into a trace.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::access::{AccessError, AccessOptions, Entrance};
use crate::clock::unix_ms;
use crate::link::{self, LinkDriver, LinkError, LinkEvent, LinkOptions, LinkSender, Message};
use crate::options::{MqttVersion, Qos};
use crate::target::{Target, TargetError};
use crate::trace::{MESSAGE_BYTES, TraceError, TraceWriter};

/// How often what was seen is brought to the disk.
const SYNC: Duration = Duration::from_secs(1);
/// Waits before the next connect: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// How long a DISCONNECT may take to leave.
const GOODBYE: Duration = Duration::from_secs(2);
/// Acknowledgements that the server may owe us: we publish nothing.
const WINDOW: u16 = 8;

/// What is recorded.
#[derive(Debug, Clone)]
pub struct RecordOptions {
    /// `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.
    pub target: String,
    /// Credentials and TLS.
    pub access: AccessOptions,
    /// The MQTT version.
    pub version: MqttVersion,
    /// At which quality of service is subscribed.
    pub qos: Qos,
    /// What is subscribed to.
    pub filters: Vec<String>,
    /// The client's name.
    pub client_id: String,
    /// The trace to append to.
    pub out: PathBuf,
    /// How long to record; by default until it is stopped.
    pub duration: Option<Duration>,
    /// How many messages to record, at most.
    pub messages: Option<u64>,
}

/// Why a recording could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Credentials or certificates cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The trace cannot be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The broker did not let us in, or could not be reached, the first time.
    #[error("{target}: {why}")]
    Connect {
        /// Which.
        target: String,
        /// Why.
        why: String,
    },
    /// The broker takes none of the subscriptions.
    #[error("{target} refuses to let this user subscribe to {filters}; name others with --topic")]
    Refused {
        /// Which.
        target: String,
        /// To what.
        filters: String,
    },
}

/// What was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Messages.
    pub messages: u64,
    /// Of payload.
    pub bytes: u64,
    /// How often the connection was lost: what was published until it was back is not in the trace.
    pub interruptions: u64,
    /// Filters that were refused.
    pub refused: usize,
}

/// Records until the time is over, there are enough messages, or `stop` is cancelled. `subscribed` is called
/// once, when the first message can come.
///
/// # Errors
/// When the first connection does not come about, or the trace cannot be written.
pub async fn record(
    options: RecordOptions,
    stop: CancellationToken,
    subscribed: impl FnOnce(),
) -> Result<Recorded, RecordError> {
    let target = Target::parse(&options.target)?;
    let entrance = Entrance::read(&options.access, target.tls)?;
    let link = LinkOptions {
        version: options.version,
        access: entrance.of(&target, &options.client_id)?,
        source: None,
        client_id: options.client_id.clone(),
        will: None,
        window: WINDOW,
        most_bytes: MESSAGE_BYTES,
    };
    let failed =
        |why: &LinkError| RecordError::Connect { target: target.to_string(), why: why.to_string() };
    let mut tape = Recorder {
        writer: TraceWriter::begin(&options.out, unix_ms())?,
        begun: Instant::now(),
        most: options.messages.unwrap_or(u64::MAX),
        recorded: Recorded::default(),
    };
    let over = async {
        match options.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let mut subscribed = Some(subscribed);
    let recording = async {
        let mut backoff = BACKOFF.0;
        loop {
            let (sender, mut driver) = link::open(&link);
            let asked = sender.subscribe(options.filters.clone(), options.qos).await;
            let lost = match asked {
                Ok(()) => tape.listen(&mut driver, &options, &mut subscribed, &target).await?,
                Err(error) => Some(error),
            };
            let Some(error) = lost else {
                tape.goodbye(&sender, &mut driver).await?;
                return Ok(());
            };
            if subscribed.is_some() {
                return Err(failed(&error));
            }
            tracing::warn!(%error, "the connection was lost: messages may be missing in the trace");
            tape.recorded.interruptions += 1;
            tape.writer.interruption(tape.now())?;
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    };
    let ended = tokio::select! {
        ended = recording => ended,
        () = over => Ok(()),
        () = stop.cancelled() => Ok(()),
    };
    // Whatever ended it, what was seen is kept.
    tape.writer.flush()?;
    ended.map(|()| tape.recorded)
}

struct Recorder {
    writer: TraceWriter,
    begun: Instant,
    most: u64,
    recorded: Recorded,
}

impl Recorder {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn keep(&mut self, message: &Message) -> Result<(), TraceError> {
        // A topic that is no text is against the standard; it is kept as far as it is one.
        let topic = String::from_utf8_lossy(&message.topic);
        let now = self.now();
        self.writer.message(now, &topic, message.qos, message.retain, &message.payload)?;
        self.recorded.messages += 1;
        self.recorded.bytes += message.payload.len() as u64;
        Ok(())
    }

    /// Records until the connection is lost, which is returned, or there is enough.
    async fn listen(
        &mut self,
        driver: &mut LinkDriver,
        options: &RecordOptions,
        subscribed: &mut Option<impl FnOnce()>,
        target: &Target,
    ) -> Result<Option<LinkError>, RecordError> {
        // Beside nothing else: a connect that is given up half way may still reach the server, and there take
        // over the session of the next one.
        if let Err(error) = driver.poll().await {
            return Ok(Some(error));
        }
        let mut sync = interval(SYNC);
        loop {
            if self.recorded.messages >= self.most {
                return Ok(None);
            }
            let event = tokio::select! {
                event = driver.poll() => event,
                _ = sync.tick() => {
                    self.writer.flush()?;
                    continue;
                }
            };
            match event {
                Ok(LinkEvent::Heard(message)) => self.keep(&message)?,
                Ok(LinkEvent::Subscribed { refused }) => {
                    if refused >= options.filters.len() {
                        let (target, filters) = (target.to_string(), options.filters.join(", "));
                        return Err(RecordError::Refused { target, filters });
                    }
                    self.recorded.refused = refused;
                    if let Some(subscribed) = subscribed.take() {
                        subscribed();
                    }
                }
                Ok(_) => {}
                Err(error) => return Ok(Some(error)),
            }
        }
    }

    /// Leaves in good order.
    async fn goodbye(
        &mut self,
        sender: &LinkSender,
        driver: &mut LinkDriver,
    ) -> Result<(), RecordError> {
        let left = async {
            sender.disconnect().await?;
            while driver.poll().await? != LinkEvent::Disconnected {}
            Ok::<(), LinkError>(())
        };
        // Whether it left in time or not, the connection is given up.
        if let Ok(Err(error)) = timeout(GOODBYE, left).await {
            tracing::debug!(%error, "a goodbye did not leave");
        }
        Ok(())
    }
}
