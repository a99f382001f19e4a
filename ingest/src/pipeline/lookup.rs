//! Publishes that wait for an answer of the embedded store.
//!
//! A reading that is older than what its device's ring has let go may be stored: only the store can
//! tell, and it may have to read its files for it. That happens here, on a thread of its own, with
//! no lock held, so that nobody else waits; the decision is then made as any other. The queue is
//! bounded in bytes; when it is full, publishes that would need it are refused as busy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::core::{Core, Hindrance, Untaken};
use super::counts::Taken;
use super::decide::Answers;
use super::dedup::ReadingKey;
use super::dedup::devices::Question;
use super::prepare::Prepared;
use crate::wal::Log;

/// How often a publish that was asked for, and is refused by the log, looks whether we are closing.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A publish, taken, and what must be known before it can be decided.
pub(crate) struct Job {
    pub(crate) publish: Prepared,
    pub(crate) taken: Taken,
    /// `None` once it was given up: it is put again when the job's turn comes.
    pub(crate) question: Option<Question>,
    pub(crate) keys: Vec<(u64, ReadingKey)>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(usize, Job)>,
    bytes: usize,
    /// Somebody found no room, and waits at the gate.
    refused: bool,
    closed: bool,
}

/// The queue and its thread.
pub(crate) struct Lookup {
    queue: Mutex<Queue>,
    wake: Condvar,
    limit: usize,
}

/// Room for one job; it must be used.
#[must_use]
pub(crate) struct Room(usize);

impl Lookup {
    pub(crate) fn start(
        core: Arc<Core>,
        log: Log,
        limit: usize,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let queue = Mutex::new(Queue::default());
        let lookup = Arc::new(Self { queue, wake: Condvar::new(), limit });
        let here = Arc::clone(&lookup);
        let thread = std::thread::Builder::new().name("lookup".into());
        let thread = thread.spawn(move || here.run(&core, &log))?;
        Ok((lookup, thread))
    }

    /// Room for a job of about so many bytes; an empty queue has room for any. `None` if it must
    /// wait at the gate, or if no more are taken.
    pub(crate) fn room(&self, bytes: usize) -> Option<Room> {
        let mut queue = self.queue.lock();
        if queue.closed || (queue.bytes > 0 && queue.bytes + bytes > self.limit) {
            queue.refused = true;
            return None;
        }
        queue.bytes += bytes;
        Some(Room(bytes))
    }

    /// Takes a job. If it comes as the queue is closed, its publish fails.
    pub(crate) fn push(&self, room: Room, job: Job) {
        let mut queue = self.queue.lock();
        if queue.closed {
            // The thread may be gone already.
            drop(queue);
            drop(job);
            return;
        }
        queue.jobs.push_back((room.0, job));
        drop(queue);
        self.wake.notify_one();
    }

    /// Takes no more jobs. The thread ends once it has done those it has.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_one();
    }

    /// Jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().jobs.len()
    }

    /// Bytes of those jobs, and of the one that is being looked up.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Whether no more jobs are taken.
    pub(crate) fn closed(&self) -> bool {
        self.queue.lock().closed
    }

    fn run(&self, core: &Core, log: &Log) {
        loop {
            let (bytes, job) = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    if queue.closed {
                        return;
                    }
                    self.wake.wait(&mut queue);
                }
            };
            self.answer(core, log, job);
            let refused = {
                let mut queue = self.queue.lock();
                queue.bytes -= bytes;
                std::mem::take(&mut queue.refused)
            };
            if refused {
                core.gate.open();
            }
        }
    }

    /// Gives up the questions of all jobs that wait.
    fn give_up_questions(&self, core: &Core) {
        let questions: Vec<Question> =
            self.queue.lock().jobs.iter_mut().filter_map(|(_, job)| job.question.take()).collect();
        questions.iter().for_each(|question| core.answered(question));
    }

    /// Asks, and decides. A publish that cannot be decided fails: its sender sends it again.
    fn answer(&self, core: &Core, log: &Log, job: Job) {
        let Job { mut publish, taken, mut question, mut keys } = job;
        let mut taken = Some(taken);
        if question.is_none() {
            // An answer to them would not hold: what the store did not have may be let go since.
            keys.clear();
        }
        let mut answers = Answers::new();
        loop {
            let generation = core.gate.generation();
            let attempt = match ask(core, keys.drain(..), &mut answers) {
                true => core.attempt(log, publish, &answers, |readings| {
                    taken.take().map(|taken| taken.recounted(readings))
                }),
                false => Ok(()),
            };
            let Err(untaken) = attempt else { break };
            let Untaken { publish: again, hindrance } = *untaken;
            publish = again;
            match hindrance {
                // More was let go meanwhile. The first question, if there is one, still holds.
                Hindrance::Ask(another, more) => {
                    keys = more;
                    match question {
                        Some(_) => core.answered(&another),
                        None => question = Some(another),
                    }
                }
                Hindrance::Busy(_) if !self.closed() => {
                    // An open question keeps the memory from forgetting: it may be what we wait
                    // for. So it is given up, and put again; those of the jobs behind this one
                    // as well, which would else wait for it as it waits for them.
                    question.take().iter().for_each(|question| core.answered(question));
                    self.give_up_questions(core);
                    answers.clear();
                    core.gate.refused(generation);
                    core.gate.wait(LOOK_AGAIN);
                    // Its readings were judged already, against what is undone now.
                    publish = Prepared::new(publish.topic, publish.payload, publish.received);
                }
                Hindrance::Busy(_) | Hindrance::Closed => break,
            }
        }
        question.iter().for_each(|question| core.answered(question));
    }
}

/// Puts the questions to the store; false if it cannot tell.
fn ask(core: &Core, keys: impl Iterator<Item = (u64, ReadingKey)>, answers: &mut Answers) -> bool {
    for (hash, key) in keys {
        match core.stored.contains(&key) {
            Ok(stored) => {
                answers.insert(hash, stored);
            }
            Err(error) => {
                tracing::error!(%error, "the store cannot tell whether it has a reading: its publish is not acknowledged");
                return false;
            }
        }
    }
    true
}
