//! The pipeline against the simplest model there is: a set of keys. Publishes, redeliveries, failed
//! syncs, a store that falls behind, devices that are forgotten, snapshots all the time, power
//! losses: whatever happens, what was acknowledged is in the log, and nothing is in it twice.

use loushan_schemas::kind::Kind;
use loushan_schemas::time::DeviceTime;
use proptest::prelude::*;

use super::*;
use crate::io::sim::{Failure, Fault, Op, PowerLoss};
use crate::pipeline::dedup::Owner;

#[derive(Debug, Clone)]
enum Step {
    /// A batch under this seq with the readings of these devices and counters.
    Publish {
        seq: u64,
        readings: Vec<(u64, u32)>,
    },
    /// One that was published before, byte for byte.
    Redeliver(prop::sample::Index),
    /// All tickets end.
    Settle,
    /// The embedded store takes what is durable.
    Store,
    FailSync(Failure),
    PowerLoss(u64, PowerLoss),
    /// An orderly end and start.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let readings = prop::collection::vec((1..5_u64, 0..150_u32), 1..40);
    let failure = prop_oneof![Just(Failure::SyncLosesPages), Just(Failure::SyncKeepsPages)];
    let loss = prop_oneof![Just(PowerLoss::ForgetAll), Just(PowerLoss::RandomPart)];
    let step = prop_oneof![
        12 => (0..40_u64, readings).prop_map(|(seq, readings)| Step::Publish { seq, readings }),
        6 => any::<prop::sample::Index>().prop_map(Step::Redeliver),
        3 => Just(Step::Settle),
        2 => Just(Step::Store),
        2 => failure.prop_map(Step::FailSync),
        1 => (any::<u64>(), loss).prop_map(|(seed, mode)| Step::PowerLoss(seed, mode)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

struct Published {
    topic: String,
    payload: Vec<u8>,
    keys: Vec<ReadingKey>,
    /// Tickets of this boot.
    slots: Vec<u64>,
    acknowledged: bool,
}

struct World {
    runtime: tokio::runtime::Runtime,
    disk: SimIo,
    store: Arc<Store>,
    options: PipelineOptions,
    running: Option<(Service, tokio::task::JoinHandle<()>)>,
    published: Vec<Published>,
}

impl World {
    fn new(options: PipelineOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_time().build().unwrap();
        let (disk, store) = (SimIo::new(), Arc::default());
        let mut world =
            Self { runtime, disk, store, options, running: None, published: Vec::new() };
        world.start();
        world
    }

    fn start(&mut self) {
        let io = Arc::new(self.disk.clone());
        let mut service = Service::with(io, Arc::clone(&self.store), self.options.clone());
        let keeper = service.keeper.take().unwrap();
        let keeper = self.runtime.spawn(async move { drop(keeper.run().await) });
        self.running = Some((service, keeper));
    }

    fn service(&self) -> &Service {
        &self.running.as_ref().unwrap().0
    }

    fn publish(&mut self, at: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Published { topic, payload, .. } = &self.published[at];
            match self.service().offer(topic, payload, QoS::AtLeastOnce) {
                Ok(slot) => return self.published[at].slots.push(slot),
                Err(busy) => drop(busy),
            }
            assert!(Instant::now() < deadline, "busy for ever");
            // The memory may be full of what the store has not got.
            self.store();
            let gate = &self.service().pipeline.core.gate;
            gate.wait(Duration::from_millis(1));
            // Sooner than the keeper would.
            gate.open();
        }
    }

    fn store(&self) {
        let frames = self.runtime.block_on(self.service().frames(self.store.cursor()));
        self.store.take(&frames);
    }

    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let service = self.service();
        for slot in self.published.iter().flat_map(|p| &p.slots) {
            while service.outcomes.wait_for(*slot, Duration::from_millis(20)).is_none() {
                assert!(Instant::now() < deadline, "no end of {slot}");
                // It may be looked up, and wait for room in a memory full of what the store has not.
                self.store();
                service.pipeline.core.gate.open();
            }
        }
        let (service, _) = self.running.as_ref().unwrap();
        for published in &mut self.published {
            for slot in published.slots.drain(..) {
                published.acknowledged |= service.outcomes.of(slot) == Some(good());
            }
        }
        let figures = service.pipeline.figures();
        assert_eq!((figures.residue(), figures.undecided), (0, 0), "{figures:?}");
    }

    fn stop(&mut self) {
        self.settle();
        self.disk.clear_faults();
        let (service, keeper) = self.running.take().unwrap();
        // It may just be recovering from a failed sync; everything was answered before.
        drop(service.pipeline.close());
        self.runtime.block_on(keeper).unwrap();
    }

    fn lose_power(&mut self, seed: u64, mode: PowerLoss) {
        let (service, keeper) = self.running.take().unwrap();
        // Some acknowledgements had left, others had not.
        for published in &mut self.published {
            for slot in published.slots.drain(..) {
                published.acknowledged |= service.outcomes.of(slot) == Some(good());
            }
        }
        self.disk = self.disk.power_loss(seed, mode);
        // It reads a dead disk again and again, in the hope that it comes back.
        keeper.abort();
        drop(service.pipeline.close());
        let _cancelled = self.runtime.block_on(keeper);
        self.start();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish { seq, readings } => {
                let readings: Vec<_> =
                    readings.into_iter().map(|(d, s)| water(d, s, u64::from(s))).collect();
                let batch = batch_of(seq, readings);
                let keys = batch.readings.iter().map(|r| key_of(&batch, r)).collect();
                let (topic, payload) = (uplink(&batch, "t"), batch.encode_to_vec());
                let (slots, acknowledged) = (Vec::new(), false);
                self.published.push(Published { topic, payload, keys, slots, acknowledged });
                self.publish(self.published.len() - 1);
            }
            Step::Redeliver(index) => {
                if !self.published.is_empty() {
                    self.publish(index.index(self.published.len()));
                }
            }
            Step::Settle => self.settle(),
            Step::Store => self.store(),
            Step::FailSync(failure) => self.disk.inject(Fault {
                op: Op::Sync,
                path: "segment".into(),
                after: 0,
                times: 1,
                failure,
            }),
            Step::PowerLoss(seed, mode) => self.lose_power(seed, mode),
            Step::Restart => {
                self.stop();
                self.start();
            }
        }
    }

    fn check(mut self) {
        self.settle();
        let frames = self.runtime.block_on(self.service().frames(0));
        let stored = keys_once(&frames);
        for published in self.published.iter().filter(|p| p.acknowledged) {
            for key in &published.keys {
                assert!(stored.contains(key), "acknowledged and not there: {key:?}");
            }
        }
        self.stop();
    }
}

fn key_of(batch: &pb::UplinkBatch, reading: &pb::Reading) -> ReadingKey {
    ReadingKey {
        owner: Owner::Device(Imei::new(reading.imei).unwrap()),
        boot_epoch: 0,
        seq: u64::from(reading.seq),
        kind: Kind::Water,
        measured: DeviceTime::from_wire(batch.base_time_ms, reading.measured_delta_ms),
    }
}

fn live(steps: Vec<Step>, change: impl FnOnce(&mut PipelineOptions)) {
    let mut options = options();
    options.snapshot_bytes = 1;
    change(&mut options);
    let mut world = World::new(options);
    for step in steps {
        world.step(step);
    }
    world.check();
}

proptest! {
    #[test]
    fn what_is_acknowledged_is_there_once_whatever_happens(steps in steps()) {
        live(steps, |_| {});
    }

    #[test]
    fn so_it_is_with_memories_that_forget_all_the_time(steps in steps()) {
        live(steps, |options| {
            options.state = decide::StateLimits { devices: 3000, batches: 400 };
            options.tail_bytes = 4096;
            options.lookup_bytes = 1;
        });
    }
}
