//! What keeps the sink from storing, as its status shows it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Name;
use crate::sink::SinkStatus;

/// The troubles there can be at the same time; the first that is there is shown.
#[derive(Debug)]
pub(super) struct Troubles {
    name: Name,
    status: Arc<SinkStatus>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// Our own disk.
    disk: Option<String>,
    /// What the server answered, or that it did not.
    server: Option<String>,
    /// The oldest reading has been held for longer than this.
    late: Option<Duration>,
}

impl Troubles {
    pub(super) fn new(name: Name, status: Arc<SinkStatus>) -> Self {
        Self { name, status, now: Mutex::default() }
    }

    /// The server is in trouble, or it is not. Each trouble is told once.
    pub(super) fn server(&self, why: Option<String>) {
        let mut now = self.now.lock();
        if now.server == why {
            return;
        }
        let sink = &*self.name;
        match &why {
            Some(why) => tracing::warn!(sink, why, "sink: nothing is stored there at the moment"),
            None => tracing::info!(sink, "sink: it stores again"),
        }
        now.server = why;
        self.show(&now);
    }

    /// Our own disk is in trouble, or it is not.
    pub(super) fn disk(&self, why: Option<String>) {
        let mut now = self.now.lock();
        now.disk = why;
        self.show(&now);
    }

    /// The oldest reading has been held for longer than so, or it has not.
    pub(super) fn late(&self, after: Option<Duration>) {
        let mut now = self.now.lock();
        if now.late == after {
            return;
        }
        now.late = after;
        self.show(&now);
    }

    fn show(&self, now: &Now) {
        let late = || {
            let after = humantime::format_duration(now.late?);
            Some(format!("the server has not taken the oldest reading for more than {after}"))
        };
        self.status.set_trouble(now.disk.clone().or_else(|| now.server.clone()).or_else(late));
    }
}
