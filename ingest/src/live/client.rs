//! One client of the feed: the events it gets, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loushan_schemas::ids::{Imei, StationId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::render::event;
use super::watching::Watching;
use super::{Live, Scope, Tick};
use crate::alarm::{AlarmEvent, Alarms};

/// After so long without a tick the client is shown that its connection is alive.
const BEAT: Duration = Duration::from_secs(2);
/// How long a client is to wait before it connects again, in milliseconds.
const RETRY: &[u8] = b"retry: 2000\n\n";

/// There are as many clients as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many clients watch as live.clients allows")]
pub struct Full;

/// See the module.
#[derive(Debug)]
pub struct Client {
    live: Arc<Live>,
    scope: Scope,
    ticks: watch::Receiver<Arc<Tick>>,
    /// The tick that was sent last; `None` before the first event.
    last: Option<u64>,
    watching: Option<Arc<Watching>>,
    /// Changes of alarms, where they are not switched off. What a slow client does not take of them is
    /// let go, and counted.
    alarms: Option<broadcast::Receiver<Arc<AlarmEvent>>>,
    /// Parts of one tick that are still to be sent: a handful.
    next: VecDeque<Bytes>,
    stop: CancellationToken,
    said_bye: bool,
    _place: OwnedSemaphorePermit,
}

impl Live {
    /// A client that sees what is in scope, and each reading of a station or a device if it asks. It
    /// ends with `stop`.
    ///
    /// # Errors
    /// When there are too many.
    pub fn subscribe(
        self: &Arc<Self>,
        scope: Scope,
        station: Option<StationId>,
        device: Option<Imei>,
        alarms: Option<&Alarms>,
        stop: CancellationToken,
    ) -> Result<Client, Full> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full)?;
        Ok(Client {
            live: Arc::clone(self),
            ticks: self.now.subscribe(),
            last: None,
            watching: self.watches.begin(station, device, scope.clone()),
            alarms: alarms.map(Alarms::subscribe),
            scope,
            next: VecDeque::new(),
            stop,
            said_bye: false,
            _place: place,
        })
    }
}

impl Client {
    /// The next bytes for the client; `None` at the end. Cancel-safe. To be asked for when there is
    /// room for them: what is newest then is what is sent.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.next.pop_front() {
                return Some(bytes);
            }
            if self.said_bye {
                return None;
            }
            let Some(last) = self.last else {
                let tick = Arc::clone(&self.ticks.borrow_and_update());
                self.last = Some(tick.number);
                self.next.push_back(Bytes::from_static(RETRY));
                self.next.push_back(tick.hello_event(&self.live, &self.scope));
                continue;
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => self.bye(),
                () = self.live.ended.cancelled() => self.bye(),
                // At once and not with the tick: somebody may be in danger.
                changed = next_alarm(&mut self.alarms) => self.alarm(last, changed),
                changed = tokio::time::timeout(BEAT, self.ticks.changed()) => match changed {
                    Ok(Ok(())) => {
                        let tick = Arc::clone(&self.ticks.borrow_and_update());
                        self.turn(last, &tick);
                    }
                    Ok(Err(_)) => self.bye(),
                    Err(_) => return Some(Bytes::from_static(b": beat\n\n")),
                },
            }
        }
    }

    fn turn(&mut self, last: u64, tick: &Tick) {
        self.last = Some(tick.number);
        self.next.extend(tick.city_event(&self.scope));
        // Changes are from one tick to the next: who missed one gets all stations.
        self.next.extend(if tick.number == last + 1 {
            tick.changes_event(&self.scope)
        } else {
            tick.full_event(&self.scope)
        });
        let readings = self.watching.as_ref().and_then(|watching| watching.take(tick.number));
        self.next.extend(readings.map(|data| event(tick.number, "reading", &data)));
    }

    fn alarm(&mut self, tick: u64, changed: Result<Arc<AlarmEvent>, RecvError>) {
        match changed {
            Ok(changed) if self.scope.covers(changed.alarm.project.as_deref()) => {
                self.next.push_back(event(tick, "alarm", &changed.to_json().to_string()));
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => {
                let data = format!("{{\"missed\":{missed}}}");
                self.next.push_back(event(tick, "alarms_missed", &data));
            }
            Err(RecvError::Closed) => self.alarms = None,
        }
    }

    fn bye(&mut self) {
        self.said_bye = true;
        let number = self.last.unwrap_or(0);
        self.next.push_back(event(number, "bye", "{\"why\":\"the service stops\"}"));
    }
}

/// The next change of an alarm; never, where they are switched off. Cancel-safe.
async fn next_alarm(
    alarms: &mut Option<broadcast::Receiver<Arc<AlarmEvent>>>,
) -> Result<Arc<AlarmEvent>, RecvError> {
    match alarms {
        Some(alarms) => alarms.recv().await,
        None => std::future::pending().await,
    }
}
