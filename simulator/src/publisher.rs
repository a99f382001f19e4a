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

use loushan_schemas::topic::Channel;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

use crate::clock::unix_ms;
use crate::fault::{Fault, FaultRates};
use crate::ledger::{BatchRecord, Ledger, LedgerError, LedgerReading};
use crate::link::{self, LinkDriver, LinkError, LinkEvent, LinkOptions, LinkSender, Message};
use crate::options::{Qos, Schedule};
use crate::report::{ByKind, Departure, FleetStats, KINDS};
use crate::run::FleetError;
use crate::seed::{Rng, Use};
use crate::station::{Batch, Outages, Station};

mod misfortune;
mod pace;
mod topics;
mod voice;
mod window;

use misfortune::{Misfortune, Mishap, Stalls};
pub(crate) use pace::Pace;
use topics::Topics;
pub(crate) use topics::topic;
pub(crate) use voice::Voice;
use window::{Held, Role, Window};

/// First and longest wait before the next connect; each failure doubles it. Jitter of half of it
/// keeps five hundred stations from coming back in step.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(3);
/// How long a DISCONNECT may take to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why a session ended before everything was acknowledged and the DISCONNECT had left.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// Open another.
    #[error(transparent)]
    Connection(#[from] LinkError),
    /// What is not in the ledger must not be sent: end the run.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It was to end: open another when the fault is over.
    #[error("a fault on purpose")]
    OnPurpose(Mishap),
}

/// A station and its session.
pub(crate) struct Publisher {
    pub(crate) voice: Voice,
    pub(crate) link: LinkOptions,
    pub(crate) window: usize,
    /// Of batches.
    pub(crate) qos: Qos,
    pub(crate) pace: Pace,
    pub(crate) ledger: Option<Arc<Ledger>>,
    pub(crate) stats: Arc<FleetStats>,
    /// No more batches are made; what is held is still brought home.
    pub(crate) stop: CancellationToken,
    pub(crate) first_connect: Instant,
    pub(crate) seed: u64,
    pub(crate) schedule: Schedule,
    pub(crate) faults: FaultRates,
    pub(crate) outages: Outages,
}

/// The batch a station made and did not send yet, and whether it makes more.
#[derive(Debug)]
struct Supply {
    next: Option<Batch>,
    finished: bool,
    /// How late a closed loop's schedule is by now.
    slipped: Duration,
    /// Until when the station was away on purpose: what was due before could not leave earlier.
    away_until: Instant,
    /// Since when there is a session that has nothing old to send.
    ready_since: Instant,
}

/// A batch that may leave now.
#[derive(Debug)]
struct Leaving {
    batch: Batch,
    counts_from: Instant,
    lag: Duration,
    waited: bool,
}

/// A connection that nobody looks after any more, kept open.
struct HalfOpen {
    until: Instant,
    _link: (LinkSender, LinkDriver),
}

impl Publisher {
    /// Publishes until the run is over and everything is acknowledged. Dropping the future leaves
    /// what is held unacknowledged, which the ledger says.
    ///
    /// # Errors
    /// When the ledger cannot be written: what is not in it must not be sent. Or when a trace could not be
    /// read to its end.
    pub(crate) async fn run(mut self) -> Result<(), FleetError> {
        self.sessions().await?;
        self.voice.end()
    }

    async fn sessions(&mut self) -> Result<(), LedgerError> {
        let mut rng = Rng::new(Use::Publisher, &[self.seed, self.voice.number()]);
        let window = Window::default();
        let now = Instant::now();
        let mut supply = Supply {
            next: None,
            finished: false,
            slipped: Duration::ZERO,
            away_until: now,
            ready_since: now,
        };
        let key = [self.seed, self.voice.number()];
        let mut misfortune = Misfortune::new(&self.faults, &self.pace, &key, self.outages.clone());
        let mut half_open: Vec<HalfOpen> = Vec::new();
        let mut backoff = BACKOFF_FIRST;
        tokio::select! {
            () = sleep_until(self.first_connect) => {}
            () = self.stop.cancelled() => return Ok(()),
        }
        loop {
            let over = supply.finished || self.stop.is_cancelled();
            if over && window.held.lock().iter().all(|publish| publish.role == Role::State) {
                return Ok(());
            }
            half_open.retain(|link| link.until > Instant::now());
            if let Some(outage) = misfortune.outage(&self.pace).filter(|_| !over) {
                self.befallen(outage.fault);
                self.away(&window, &mut supply, outage.until).await;
            }
            let (sender, mut driver) = link::open(&self.link);
            let opened = Instant::now();
            if let Err(error) = connected(&mut driver).await {
                FleetStats::add(&self.stats.failed_connects, 1);
                self.trouble("connect failed", &error);
            } else {
                backoff = BACKOFF_FIRST;
                self.stats.well();
                {
                    let mut recorder = self.stats.recorder.lock();
                    recorder.connect.record(opened.elapsed());
                    recorder.row().connects += 1;
                }
                let _online = Online::new(Arc::clone(&self.stats));
                let (sender_, driver_) = (&sender, &mut driver);
                let end =
                    self.session(&window, &mut supply, sender_, driver_, &mut misfortune).await;
                match end {
                    Ok(()) => return Ok(()),
                    Err(Broken::Ledger(error)) => return Err(error),
                    Err(Broken::Connection(error)) => {
                        FleetStats::add(&self.stats.reconnects, 1);
                        self.stats.recorder.lock().row().reconnects += 1;
                        self.trouble("connection lost", &error);
                    }
                    Err(Broken::OnPurpose(Mishap { fault, until })) => {
                        self.befallen(fault);
                        match fault {
                            Fault::HalfOpen => half_open.push(HalfOpen {
                                until: Instant::now() + misfortune.half_open(),
                                _link: (sender, driver),
                            }),
                            Fault::Disconnect => goodbye(&sender, &mut driver).await,
                            // Dropped without a word.
                            _ => drop((sender, driver)),
                        }
                        self.away(&window, &mut supply, until).await;
                        continue;
                    }
                }
            }
            let half = backoff / 2;
            let jitter = u64::try_from(half.as_micros()).unwrap_or(0);
            sleep(half + Duration::from_micros(rng.below(jitter + 1))).await;
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    fn befallen(&self, fault: Fault) {
        self.stats.recorder.lock().fault(fault, 1);
    }

    /// Waits until the station wants to be back, or the run is over.
    async fn away(&self, window: &Window, supply: &mut Supply, until: Instant) {
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.stop.cancelled() => {}
        }
        window.excuse();
        supply.away_until = Instant::now();
    }

    fn trouble(&self, what: &str, error: &LinkError) {
        tracing::debug!(station = %self.voice.name(), %error, "{what}");
        let text = format!("{what}: {error}");
        self.stats.recorder.lock().error(&text);
        self.stats.trouble(text);
    }

    async fn session(
        &mut self,
        window: &Window,
        supply: &mut Supply,
        sender: &LinkSender,
        driver: &mut LinkDriver,
        misfortune: &mut Misfortune,
    ) -> Result<(), Broken> {
        {
            let mut held = window.held.lock();
            // The birth of the last connection is of no use; this one has its own.
            held.retain(|publish| publish.role != Role::State);
            for publish in held.iter_mut() {
                publish.pkid = None;
                publish.handed_over = None;
            }
        }
        let (stats, ledger) = (Arc::clone(&self.stats), self.ledger.clone());
        let (pace, over) = (self.pace, self.stop.clone());
        let (ends, stalls) = misfortune.split();
        let drive = async {
            loop {
                stall(stalls, window, &stats).await;
                match driver.poll().await? {
                    LinkEvent::Disconnected => return Ok(()),
                    event => window.on(event, &stats, ledger.as_deref())?,
                }
            }
        };
        // Both are polled until the first of them ends, and neither is polled again after that.
        let end = tokio::select! {
            end = drive => end,
            end = self.feed(window, supply, sender) => end,
            mishap = ends.next(&pace), if !over.is_cancelled() => Err(Broken::OnPurpose(mishap)),
        };
        // What may have left at QoS 0 must not be sent again.
        for event in driver.rest() {
            window.on(event, &self.stats, self.ledger.as_deref())?;
        }
        end
    }

    /// Hands over the birth, what is held, and then new batches as they are due; at the end of the run
    /// the goodbye, when all else is acknowledged.
    async fn feed(
        &mut self,
        window: &Window,
        supply: &mut Supply,
        sender: &LinkSender,
    ) -> Result<(), Broken> {
        let topics = self.voice.station().map(Topics::of).unwrap_or_default();
        if let Some(birth) = self.state(&topics, true) {
            window.held.lock().push_front(birth);
        }
        self.resend(window, sender).await?;
        if let Some(commands) = self.voice.station().map(|s| topic(s, Channel::Command)) {
            sender.subscribe(vec![commands], Qos::AtLeastOnce).await?;
        }
        supply.ready_since = Instant::now();
        loop {
            let leaving = tokio::select! {
                batch = self.next(window, supply) => batch,
                command = window.command() => {
                    let Some(answer) = self.voice.answer(&command) else { continue };
                    let topic = topics.of_channel(Channel::CommandResult).clone();
                    let mut held = Held::own(Role::Answer, topic, answer);
                    held.handed_over = Some(Instant::now());
                    let message = held.message.clone();
                    window.held.lock().push_back(held);
                    sender.publish(message).await?;
                    continue;
                }
            };
            let Some(leaving) = leaving else { break };
            let held = self.hold(leaving, &topics)?;
            let message = held.message.clone();
            // Held before it is handed over: from here on it is sent, now or on the next connection.
            window.held.lock().push_back(held);
            sender.publish(message).await?;
        }
        window.empty().await;
        if let Some(death) = self.state(&topics, false) {
            window.held.lock().push_back(death);
        }
        self.resend(window, sender).await?;
        window.empty().await;
        sender.disconnect().await?;
        // The other half ends when the DISCONNECT has left.
        sleep(GOODBYE).await;
        Ok(())
    }

    /// The station's `state` message of this moment.
    fn state(&self, topics: &Topics, online: bool) -> Option<Held> {
        let now = self.pace.simulated(Instant::now());
        let payload = Station::state(self.voice.station()?.session, online, now);
        Some(Held::own(Role::State, topics.of_channel(Channel::State).clone(), payload))
    }

    /// Hands over everything that is held and was not handed over on this connection.
    async fn resend(&self, window: &Window, sender: &LinkSender) -> Result<(), Broken> {
        loop {
            let message = {
                let mut held = window.held.lock();
                // Those in front may have been acknowledged meanwhile; the order stays.
                let waiting = held.iter_mut().find(|publish| publish.handed_over.is_none());
                let Some(publish) = waiting else { return Ok(()) };
                publish.handed_over = Some(Instant::now());
                if publish.role == Role::Batch {
                    FleetStats::add(&self.stats.redelivered, 1);
                    if let (Some(ledger), Some(id)) = (&self.ledger, publish.id) {
                        ledger.sent_again(id)?;
                    }
                }
                publish.message.clone()
            };
            sender.publish(message).await?;
        }
    }

    /// The next batch, when it is due and the window has room; `None` when the run is over.
    /// Cancel-safe: a batch that was made and not returned is kept.
    async fn next(&mut self, window: &Window, supply: &mut Supply) -> Option<Leaving> {
        if supply.finished {
            return None;
        }
        let stop = self.stop.clone();
        let ready = async {
            if supply.next.is_none() {
                supply.next = self.voice.next_batch();
            }
            let due = supply.next.as_ref()?.due;
            let meant = self.pace.wall(due) + supply.slipped;
            sleep_until(meant).await;
            let waited = window.is_full(self.window);
            window.room_for(self.window).await;
            Some((due, meant, waited))
        };
        let ready = tokio::select! {
            ready = ready => ready,
            () = stop.cancelled() => None,
        };
        let Some((_, meant, waited)) = ready.filter(|(due, ..)| *due <= self.pace.end_ms) else {
            supply.finished = true;
            return None;
        };
        let now = Instant::now();
        // When nothing was in the way any more but this program.
        let room_since = window.room_since.lock().filter(|_| waited);
        let could = meant.max(supply.ready_since).max(room_since.unwrap_or(meant));
        let counts_from = match self.schedule {
            Schedule::Open => meant.max(supply.away_until),
            Schedule::Closed => {
                supply.slipped += now.saturating_duration_since(meant);
                now
            }
        };
        let lag = now.saturating_duration_since(could);
        supply.next.take().map(|batch| Leaving { batch, counts_from, lag, waited })
    }

    /// Enters a batch into the ledger; only then may it be sent.
    fn hold(&self, leaving: Leaving, topics: &Topics) -> Result<Held, LedgerError> {
        let Leaving { batch, counts_from, lag, waited } = leaving;
        let readings = batch.meant.len() as u64;
        let mut kinds: ByKind = [0; KINDS];
        for meant in batch.meant.iter() {
            if let Some(count) = kinds.get_mut(usize::from(meant.kind)) {
                *count += 1;
            }
        }
        let departure = Departure { kinds, faults: batch.faults, lag, waited };
        self.stats.recorder.lock().departed(&departure);
        let qos = batch.qos.unwrap_or(self.qos);
        let id = match self.ledger.as_ref().filter(|_| batch.entered) {
            None => None,
            Some(ledger) => Some(match batch.ledger_id.get() {
                // Of the publish it repeats.
                Some(id) => {
                    ledger.sent_again(*id)?;
                    *id
                }
                None => {
                    let done = Fault::ALL.into_iter().zip(batch.faults);
                    let mut names: Vec<&str> = done
                        .filter(|(_, count)| *count > 0)
                        .map(|(fault, _)| fault.as_str())
                        .collect();
                    if batch.channel == Channel::Replay {
                        names.push(Fault::Outage.as_str());
                    }
                    let marks = ledger.marks(&names)?;
                    let expected = batch.beside;
                    let reading = |meant| LedgerReading { meant, expected, marks };
                    let id = ledger.batch(&BatchRecord {
                        id: 0,
                        station: self.voice.name().into(),
                        session: batch.session,
                        seq: batch.seq,
                        channel: batch.channel,
                        payload_digest: xxh3_128(&batch.payload),
                        due_ms: batch.base_ms,
                        sent_ms: unix_ms(),
                        promised: qos != Qos::AtMostOnce,
                        readings: batch.meant.iter().copied().map(reading).collect(),
                    })?;
                    *batch.ledger_id.get_or_init(|| id)
                }
            }),
        };
        FleetStats::add(&self.stats.batches_sent, 1);
        FleetStats::add(&self.stats.readings_sent, readings);
        if qos == Qos::AtMostOnce {
            FleetStats::add(&self.stats.unpromised, 1);
        }
        if batch.again {
            FleetStats::add(&self.stats.repeated_on_purpose, 1);
        }
        let topic = batch.topic.unwrap_or_else(|| topics.of_channel(batch.channel).clone());
        Ok(Held {
            role: Role::Batch,
            message: Message { topic, payload: batch.payload, qos, retain: batch.retain },
            kinds,
            spoiled: batch.meant.is_empty(),
            id,
            handed_over: Some(Instant::now()),
            pkid: None,
            counts_from: Some(counts_from),
        })
    }
}

impl Drop for Publisher {
    /// However the session ended, what was told is counted.
    fn drop(&mut self) {
        self.stats.recorder.lock().incidents.merge(&self.voice.incidents());
    }
}

/// Polls a new link until the server has taken the session.
async fn connected(driver: &mut LinkDriver) -> Result<(), LinkError> {
    while driver.poll().await? != LinkEvent::Connected {}
    Ok(())
}

/// Takes nothing from the socket for a while, if that is to be.
async fn stall(stalls: &mut Stalls, window: &Window, stats: &FleetStats) {
    if let Some(lasts) = stalls.due() {
        stats.recorder.lock().fault(Fault::Stall, 1);
        sleep(lasts).await;
        window.excuse();
    }
}

/// Says DISCONNECT in the middle of everything.
async fn goodbye(sender: &LinkSender, driver: &mut LinkDriver) {
    let left = async {
        sender.disconnect().await?;
        while driver.poll().await? != LinkEvent::Disconnected {}
        Ok::<(), LinkError>(())
    };
    // Whether it left in time or not, the connection is given up.
    if let Ok(Err(error)) = timeout(GOODBYE, left).await {
        tracing::debug!(%error, "a goodbye did not leave");
    }
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
