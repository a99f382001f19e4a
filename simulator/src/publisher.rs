//! A station's session: batches out, acknowledgements in, and everything again after a lost
//! connection.
//!
//! The publisher keeps every batch until its PUBACK. When a connection ends, for whatever reason, it
//! opens another and sends all it still holds once more, in order and byte for byte, before anything
//! new. A batch is therefore never dropped and never changed; it may arrive twice, which is what
//! QoS 1 means and what the service must see through. What is held is bounded by the window: when it
//! is full the station makes no more batches until one is acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use loushan_schemas::topic::{Channel, Topic};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

use crate::clock::unix_ms;
use crate::ledger::{BatchRecord, Ledger, LedgerError, LedgerReading};
use crate::link::{self, LinkDriver, LinkError, LinkEvent, LinkOptions, LinkSender};
use crate::report::FleetStats;
use crate::seed::{Rng, Use};
use crate::station::{Batch, Station};

mod window;

use window::{Held, Window};

/// First and longest wait before the next connect; each failure doubles it. Jitter of half of it
/// keeps five hundred stations from coming back in step.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(3);
/// How long a DISCONNECT may take to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// Simulated time by the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) begun: Instant,
    pub(crate) start_ms: i64,
    /// Batches that are due later are not made.
    pub(crate) end_ms: i64,
    pub(crate) speed: u32,
}

impl Pace {
    fn wall(&self, simulated_ms: i64) -> Instant {
        let passed = (simulated_ms - self.start_ms).max(0).unsigned_abs();
        self.begun
            + Duration::from_micros(passed.saturating_mul(1000) / u64::from(self.speed.max(1)))
    }

    fn simulated(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.begun).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(passed.saturating_mul(self.speed.into()))
    }
}

/// Why a session ended before everything was acknowledged and the DISCONNECT had left.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// Open another.
    #[error(transparent)]
    Connection(#[from] LinkError),
    /// What is not in the ledger must not be sent: end the run.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A station and its session.
pub(crate) struct Publisher {
    pub(crate) station: Station,
    pub(crate) link: LinkOptions,
    pub(crate) window: usize,
    pub(crate) pace: Pace,
    pub(crate) ledger: Option<Arc<Ledger>>,
    pub(crate) stats: Arc<FleetStats>,
    /// No more batches are made; what is held is still brought home.
    pub(crate) stop: CancellationToken,
    pub(crate) first_connect: Instant,
    pub(crate) seed: u64,
}

/// The batch a station made and did not send yet, and whether it makes more.
#[derive(Debug, Default)]
struct Supply {
    next: Option<Batch>,
    finished: bool,
}

impl Publisher {
    /// Publishes until the run is over and everything is acknowledged. Dropping the future leaves
    /// what is held unacknowledged, which the ledger says.
    ///
    /// # Errors
    /// When the ledger cannot be written: what is not in it must not be sent.
    pub(crate) async fn run(mut self) -> Result<(), LedgerError> {
        let mut rng = Rng::new(Use::Publisher, &[self.seed, self.station.plan.number.into()]);
        let window = Window::default();
        let mut supply = Supply::default();
        let mut backoff = BACKOFF_FIRST;
        tokio::select! {
            () = sleep_until(self.first_connect) => {}
            () = self.stop.cancelled() => return Ok(()),
        }
        loop {
            let over = supply.finished || self.stop.is_cancelled();
            if over && window.held.lock().iter().all(|publish| publish.channel == Channel::State) {
                return Ok(());
            }
            let (sender, mut driver) = link::open(&self.link);
            if let Err(error) = connected(&mut driver).await {
                FleetStats::add(&self.stats.failed_connects, 1);
                self.trouble("connect failed", &error);
            } else {
                backoff = BACKOFF_FIRST;
                self.stats.well();
                let _online = Online::new(Arc::clone(&self.stats));
                match self.session(&window, &mut supply, &sender, &mut driver).await {
                    Ok(()) => return Ok(()),
                    Err(Broken::Ledger(error)) => return Err(error),
                    Err(Broken::Connection(error)) => {
                        FleetStats::add(&self.stats.reconnects, 1);
                        self.trouble("connection lost", &error);
                    }
                }
            }
            let half = backoff / 2;
            let jitter = u64::try_from(half.as_micros()).unwrap_or(0);
            sleep(half + Duration::from_micros(rng.below(jitter + 1))).await;
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    fn trouble(&self, what: &str, error: &LinkError) {
        tracing::debug!(station = %self.station.plan.station, %error, "{what}");
        self.stats.trouble(format!("{what}: {error}"));
    }

    async fn session(
        &mut self,
        window: &Window,
        supply: &mut Supply,
        sender: &LinkSender,
        driver: &mut LinkDriver,
    ) -> Result<(), Broken> {
        {
            let mut held = window.held.lock();
            // The birth of the last connection is of no use; this one has its own.
            held.retain(|publish| publish.channel != Channel::State);
            for publish in held.iter_mut() {
                publish.pkid = None;
                publish.handed_over = None;
            }
        }
        let (stats, ledger) = (Arc::clone(&self.stats), self.ledger.clone());
        let drive = async {
            loop {
                match driver.poll().await? {
                    LinkEvent::Disconnected => return Ok(()),
                    event => window.on(event, &stats, ledger.as_deref())?,
                }
            }
        };
        // Both are polled until the first of them ends, and neither is polled again after that.
        tokio::select! {
            end = drive => end,
            end = self.feed(window, supply, sender) => end,
        }
    }

    /// Hands over the birth, what is held, and then new batches as they are due; at the end of the run
    /// the goodbye, when all else is acknowledged.
    async fn feed(
        &mut self,
        window: &Window,
        supply: &mut Supply,
        sender: &LinkSender,
    ) -> Result<(), Broken> {
        let topics = Topics::of(&self.station);
        window.held.lock().push_front(Held::state(self.state(true)));
        self.resend(window, sender, &topics).await?;
        sender.subscribe(topics.of_channel(Channel::Command)).await?;
        loop {
            let batch = tokio::select! {
                batch = self.next(window, supply) => batch,
                command = window.command() => {
                    let Some(answer) = self.station.answer(&command, unix_ms()) else { continue };
                    let channel = Channel::CommandResult;
                    window.held.lock().push_back(Held::answer(answer.clone()));
                    sender.publish(topics.of_channel(channel), false, answer).await?;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            let held = self.hold(batch)?;
            let (channel, payload) = (held.channel, held.payload.clone());
            // Held before it is handed over: from here on it is sent, now or on the next connection.
            window.held.lock().push_back(held);
            sender.publish(topics.of_channel(channel), false, payload).await?;
        }
        window.empty().await;
        window.held.lock().push_back(Held::state(self.state(false)));
        self.resend(window, sender, &topics).await?;
        window.empty().await;
        sender.disconnect().await?;
        // The other half ends when the DISCONNECT has left.
        sleep(GOODBYE).await;
        Ok(())
    }

    /// The station's `state` message of this moment.
    fn state(&self, online: bool) -> Bytes {
        Station::state(self.station.session, online, self.pace.simulated(Instant::now()))
    }

    /// Hands over everything that is held and was not handed over on this connection.
    async fn resend(
        &self,
        window: &Window,
        sender: &LinkSender,
        topics: &Topics,
    ) -> Result<(), Broken> {
        loop {
            let (channel, payload) = {
                let mut held = window.held.lock();
                // Those in front may have been acknowledged meanwhile; the order stays.
                let waiting = held.iter_mut().find(|publish| publish.handed_over.is_none());
                let Some(publish) = waiting else { return Ok(()) };
                publish.handed_over = Some(Instant::now());
                if !matches!(publish.channel, Channel::State | Channel::CommandResult) {
                    FleetStats::add(&self.stats.redelivered, 1);
                    if let (Some(ledger), Some(id)) = (&self.ledger, publish.id) {
                        ledger.sent_again(id)?;
                    }
                }
                (publish.channel, publish.payload.clone())
            };
            let retain = channel == Channel::State;
            sender.publish(topics.of_channel(channel), retain, payload).await?;
        }
    }

    /// The next batch, when it is due and the window has room; `None` when the run is over.
    /// Cancel-safe: a batch that was made and not returned is kept.
    async fn next(&mut self, window: &Window, supply: &mut Supply) -> Option<Batch> {
        if supply.finished {
            return None;
        }
        let stop = self.stop.clone();
        let ready = async {
            window.room_for(self.window).await;
            let due = supply.next.get_or_insert_with(|| self.station.next_batch()).due;
            sleep_until(self.pace.wall(due)).await;
            due
        };
        let due = tokio::select! {
            due = ready => Some(due),
            () = stop.cancelled() => None,
        };
        if due.is_none_or(|due| due > self.pace.end_ms) {
            supply.finished = true;
            return None;
        }
        supply.next.take()
    }

    /// Enters a batch into the ledger; only then may it be sent.
    fn hold(&self, batch: Batch) -> Result<Held, LedgerError> {
        let readings = batch.meant.len() as u64;
        let id = match &self.ledger {
            None => None,
            Some(ledger) => Some(match batch.ledger_id.get() {
                // Of the publish it repeats.
                Some(id) => {
                    ledger.sent_again(*id)?;
                    *id
                }
                None => {
                    let id = ledger.batch(&BatchRecord {
                        id: 0,
                        station: self.station.plan.station.as_str().into(),
                        session: self.station.session,
                        seq: batch.seq,
                        channel: batch.channel,
                        payload_digest: xxh3_128(&batch.payload),
                        due_ms: batch.due,
                        sent_ms: unix_ms(),
                        readings: batch.meant.iter().copied().map(LedgerReading::from).collect(),
                    })?;
                    *batch.ledger_id.get_or_init(|| id)
                }
            }),
        };
        FleetStats::add(&self.stats.batches_sent, 1);
        FleetStats::add(&self.stats.readings_sent, readings);
        if batch.again {
            FleetStats::add(&self.stats.repeated_on_purpose, 1);
        }
        Ok(Held {
            channel: batch.channel,
            payload: batch.payload,
            readings,
            id,
            handed_over: Some(Instant::now()),
            pkid: None,
        })
    }
}

/// Polls a new link until the server has taken the session.
async fn connected(driver: &mut LinkDriver) -> Result<(), LinkError> {
    while driver.poll().await? != LinkEvent::Connected {}
    Ok(())
}

/// A station's topics, formatted once.
struct Topics(Vec<(Channel, String)>);

impl Topics {
    fn of(station: &Station) -> Self {
        Self(Channel::ALL.map(|channel| (channel, topic(station, channel))).into())
    }

    fn of_channel(&self, channel: Channel) -> &str {
        self.0.iter().find(|(c, _)| *c == channel).map_or("", |(_, topic)| topic.as_str())
    }
}

/// The topic of a station's channel.
pub(crate) fn topic(station: &Station, channel: Channel) -> String {
    let (region, name) = (station.plan.region.clone(), station.plan.station.clone());
    Topic { region, station: name, channel }.to_string()
}

/// Counts a station as connected for as long as it lives.
struct Online(Arc<FleetStats>);

impl Online {
    fn new(stats: Arc<FleetStats>) -> Self {
        stats.connected.fetch_add(1, Ordering::Relaxed);
        Self(stats)
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}
