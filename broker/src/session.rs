//! What the broker remembers of a client between connections.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// One client's session. Its connection, if it has one, is the only one that uses it: a second
/// connection with the same client id gets it when the first has let go.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    state: Mutex<State>,
}

/// See [`Session`].
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Ids of QoS 2 publishes with PUBREC and without PUBREL.
    pub(crate) received: HashSet<u16>,
}

impl Session {
    pub(crate) fn new(client_id: Arc<str>) -> Self {
        Self { client_id, state: Mutex::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
