//! A fleet beside the service under test: real sockets, a runtime of its own.

use std::sync::Arc;
use std::time::Duration;

use loushan_simulator::fault::FaultRates;
use loushan_simulator::{Fleet, FleetError, FleetOptions, FleetStats, Summary};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A fleet at work.
pub struct Running {
    runtime: Runtime,
    stop: CancellationToken,
    task: JoinHandle<Result<Summary, FleetError>>,
}

impl Running {
    /// Starts a fleet. Devices repeat and overtake themselves as they do, but no batch is published
    /// twice on purpose: what the service sees again was sent again because an acknowledgement got
    /// lost.
    pub fn start(options: FleetOptions) -> Self {
        let faults = FaultRates { republish: 0, ..FaultRates::default() };
        let options = FleetOptions { faults, drain: super::DEADLINE, ..options };
        let runtime = Runtime::new().unwrap();
        let stop = CancellationToken::new();
        let stats = Arc::new(FleetStats::default());
        let task = runtime.spawn(Fleet::run(options, stop.clone(), stats));
        Self { runtime, stop, task }
    }

    /// It makes no more batches, waits until all are acknowledged, and ends.
    pub fn stop(self) -> Summary {
        self.stop.cancel();
        let summary = self.runtime.block_on(self.task).unwrap().unwrap();
        assert_eq!(summary.figures.counts.unacknowledged(), 0, "never acknowledged:\n{summary}");
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        summary
    }
}
