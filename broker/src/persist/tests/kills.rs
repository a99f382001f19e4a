//! A model beside the database: whenever the power goes, what is there afterwards is a state that was,
//! and not older than the last one that somebody was told is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::disk::Disk;
use super::is_durable;
use crate::handler::QoS;
use crate::message::tests::message;
use crate::persist::{Kept, Opened};
use crate::session::Delivery;

const SESSIONS: [&str; 2] = ["one", "two"];

#[derive(Debug, Clone)]
enum Step {
    Retain(u8, u8),
    Forget(u8),
    /// A message for a session.
    Queue(usize, u8),
    /// The oldest message of a session was sent.
    Send(usize),
    /// The oldest message of a session is acknowledged.
    Acknowledge(usize),
    /// A session ends and begins anew.
    Renew(usize),
    /// Somebody waits for everything so far.
    Durable,
    PowerLoss,
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0..SESSIONS.len();
    prop_oneof![
        3 => (0..3u8, any::<u8>()).prop_map(|(topic, value)| Step::Retain(topic, value)),
        2 => (0..3u8).prop_map(Step::Forget),
        4 => (session.clone(), any::<u8>()).prop_map(|(s, value)| Step::Queue(s, value)),
        2 => session.clone().prop_map(Step::Send),
        3 => session.clone().prop_map(Step::Acknowledge),
        1 => session.prop_map(Step::Renew),
        2 => Just(Step::Durable),
        1 => Just(Step::PowerLoss),
    ]
}

/// Topic to payload; client id to messages, by number, with whether they were sent.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    retained: BTreeMap<String, String>,
    queues: BTreeMap<String, BTreeMap<u64, (String, bool)>>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the database has.
fn found(opened: &Opened) -> State {
    let mut state = State::default();
    for stored in &opened.loaded.retained {
        let message = &stored.message;
        state.retained.insert(message.topic.to_string(), text(&message.payload));
    }
    for session in &opened.loaded.sessions {
        let was_sent = |number| session.in_flight.iter().any(|(sent, _)| *sent == number);
        let queue = session.queue.iter().map(|(number, delivery)| {
            let payload = text(&delivery.message.message.payload);
            (*number, (payload, was_sent(*number)))
        });
        state.queues.insert(session.client_id.to_string(), queue.collect());
    }
    state
}

/// Begins what is not there, and goes on with what is.
fn sessions(opened: &Opened, state: &mut State) -> Vec<Kept> {
    let kept = SESSIONS.map(|id| {
        let known = opened.loaded.sessions.iter().find(|session| *session.client_id == *id);
        state.queues.entry(id.to_owned()).or_default();
        match known {
            Some(known) => {
                let last = known.queue.iter().map(|(number, _)| *number).max().unwrap_or(0);
                let (number, ids) = (known.record.number, known.ids_reserved);
                Kept::restored(&opened.store, &id.into(), number, last + 1, ids, 60, None)
            }
            None => begun(opened, id),
        }
    });
    kept.into()
}

fn begun(opened: &Opened, id: &str) -> Kept {
    let mut kept = Kept::begin(&opened.store, &id.into());
    kept.connected(60, None);
    kept
}

fn run(steps: Vec<Step>) {
    let now = Arc::new(AtomicU64::new(1_000));
    let mut disk = Disk::default();
    let mut opened = disk.open(&now);
    let mut state = State::default();
    let mut kept = sessions(&opened, &mut state);
    assert!(is_durable(&opened.store));
    // The states since the last one that is durable for certain.
    let mut states = vec![state.clone()];
    let mut ids = 0;
    for step in steps {
        match step {
            Step::Retain(topic, value) => {
                let (topic, value) = (format!("t{topic}"), format!("v{value}"));
                let replaces = state.retained.insert(topic.clone(), value.clone()).is_some();
                opened.store.retain(&message(&topic, &value), replaces);
            }
            Step::Forget(topic) => {
                let topic = format!("t{topic}");
                if state.retained.remove(&topic).is_some() {
                    opened.store.forget_retained(&(*topic).into());
                }
            }
            Step::Queue(session, value) => {
                let value = format!("v{value}");
                let delivery = Delivery {
                    message: message("q", &value),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    ids: Vec::new(),
                    share: None,
                };
                let number = kept[session].queued(&delivery);
                let queue = state.queues.get_mut(SESSIONS[session]).unwrap();
                queue.insert(number, (value, false));
            }
            Step::Send(session) => {
                let queue = state.queues.get_mut(SESSIONS[session]).unwrap();
                if let Some((number, (_, sent))) = queue.iter_mut().find(|(_, (_, sent))| !sent) {
                    *sent = true;
                    ids += 1;
                    kept[session].sent(*number, 1 + u16::try_from(ids % 65_535).unwrap(), ids);
                }
            }
            Step::Acknowledge(session) => {
                let queue = state.queues.get_mut(SESSIONS[session]).unwrap();
                if let Some((number, (_, sent))) = queue.pop_first() {
                    kept[session].done(number, sent);
                }
            }
            Step::Renew(session) => {
                let id = SESSIONS[session];
                let new = begun(&opened, id);
                std::mem::replace(&mut kept[session], new).end();
                state.queues.insert(id.to_owned(), BTreeMap::new());
            }
            Step::Durable => {
                assert!(is_durable(&opened.store));
                states.clear();
            }
            Step::PowerLoss => {
                disk = disk.after_power_loss();
                opened = disk.open(&now);
                let mut there = found(&opened);
                // Between its end and its next beginning a session may be missing.
                for id in SESSIONS {
                    there.queues.entry(id.to_owned()).or_default();
                }
                assert!(states.contains(&there), "{there:#?} is none of {states:#?}");
                state = there;
                kept = sessions(&opened, &mut state);
                assert!(is_durable(&opened.store));
                states.clear();
            }
        }
        states.push(state.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn after_a_power_loss_the_database_is_as_it_was_at_one_moment_since_it_was_durable(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(steps);
    }
}
