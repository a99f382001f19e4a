//! What the actor is to do, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::message::Message;
use crate::session::Session;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Command {
    Publish(Arc<Message>),
    Subscribe(Arc<Session>, Arc<str>),
    Unsubscribe(Arc<str>, Arc<str>),
    Close(Arc<str>),
    /// The reader of a link, by its number, has let go of it.
    Drained(u64),
    /// The router of that generation has ended.
    Died(u64),
    Stop,
    /// To be started again when the other end is dropped.
    #[cfg(any(test, feature = "testing"))]
    Crash(std::sync::mpsc::Receiver<()>),
}

/// Commands other than messages, beyond which clients' sockets are not read: subscribing and
/// unsubscribing in a circle is cheaper for a client than for the router.
const CONGESTED: usize = 10_000;

/// A queue; messages in it are bounded in bytes. Of the other commands there are no more than
/// [`CONGESTED`], what was read when there were so many, and one for each connection that ends.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    filled: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<Command>,
    bytes: usize,
    others: usize,
}

impl Inbox {
    pub(super) fn new(limit: usize) -> Self {
        Self { queue: Mutex::default(), filled: Condvar::new(), limit }
    }

    /// Queues a message, if there is room.
    pub(super) fn publish(&self, message: Arc<Message>) -> bool {
        let mut queue = self.queue.lock();
        let bytes = queue.bytes.saturating_add(message.cost());
        if bytes > self.limit {
            return false;
        }
        queue.bytes = bytes;
        queue.commands.push_back(Command::Publish(message));
        drop(queue);
        self.filled.notify_one();
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    pub(super) fn push(&self, command: Command) {
        let mut queue = self.queue.lock();
        queue.others += 1;
        queue.commands.push_back(command);
        drop(queue);
        self.filled.notify_one();
    }

    pub(super) fn is_congested(&self) -> bool {
        self.queue.lock().others > CONGESTED
    }

    /// Waits until there is something to do, and takes all of it.
    pub(super) fn take(&self, into: &mut VecDeque<Command>) {
        let mut queue = self.queue.lock();
        while queue.commands.is_empty() {
            self.filled.wait(&mut queue);
        }
        queue.bytes = 0;
        queue.others = 0;
        into.append(&mut queue.commands);
    }
}
