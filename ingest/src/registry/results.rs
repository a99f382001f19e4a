//! What stations say of their commands, on its way to whoever sent them.

use std::collections::VecDeque;
use std::fmt;

use loushan_schemas::ids::StationId;
use loushan_schemas::pb;
use parking_lot::Mutex;

/// Results kept until somebody wants them: the log is replayed before there is a sender.
const EARLY: usize = 1024;

/// Told of each result.
type To = Box<dyn Fn(&StationId, pb::CommandResult) + Send + Sync>;

/// See the module.
#[derive(Default)]
pub(super) struct Results(Mutex<State>);

#[derive(Default)]
struct State {
    early: VecDeque<(StationId, pb::CommandResult)>,
    to: Option<To>,
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl Results {
    /// A result is durable. The same one may be told again after a restart.
    pub(super) fn tell(&self, station: &StationId, result: pb::CommandResult) {
        let mut state = self.0.lock();
        match &state.to {
            Some(to) => to(station, result),
            None => {
                if state.early.len() >= EARLY {
                    state.early.pop_front();
                }
                state.early.push_back((station.clone(), result));
            }
        }
    }

    pub(super) fn tell_to(&self, to: To) {
        let mut state = self.0.lock();
        for (station, result) in state.early.drain(..) {
            to(&station, result);
        }
        state.to = Some(to);
    }
}
