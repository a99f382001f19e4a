//! The store's upkeep: a thread of low priority that merges files, lets go of what has expired and
//! deletes what nobody reads any more.
//!
//! It never holds up an acknowledgement: it has no lock that one waits for, works at a low priority
//! and only a share of the time, and syncs little at once. What it cannot do now it tries again;
//! what it cannot do at all it reports ([`Trouble`]). An ordered stop ends it between two batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::compact::plan::{Partition, Policy, plan};
use super::compact::{self, CompactError, Done, Leave};
use super::manifest::{Contents, DAY_MS, Edit, Level};
use super::schema::Table;
use super::store::{Shared, TableStats};
use super::{CompactionConfig, EmbeddedConfig, retain};
use crate::clock::Clock;

/// A look at what there is to do, when no flush asked for one.
const LOOK: Duration = Duration::from_secs(60);
/// How often expired partitions are looked for.
const RETENTION: Duration = Duration::from_secs(600);
/// Times that a file may be found unreadable before it is left out until the next start.
const READS: u32 = 5;
/// A pause that is worth making.
const PAUSE: Duration = Duration::from_millis(5);
/// Behind everything else, and yet not starved by a machine that is always busy.
const NICE: i32 = 10;

/// What the upkeep is given from outside.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// The time: which days are over, and what has expired.
    pub clock: Clock,
    /// Free disk below which nothing is merged.
    pub free_floor_bytes: u64,
}

/// What keeps the upkeep from its work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Files that are not merged, and why.
    pub(super) left_alone: BTreeMap<u64, String>,
    /// Why nothing is merged now.
    pub(super) waits: Option<String>,
}

impl Trouble {
    /// For people; `None` if there is none.
    pub(super) fn text(&self) -> Option<String> {
        match (self.left_alone.values().next(), self.left_alone.len()) {
            (Some(first), 1) => Some(format!("a file is left out of merging: {first}")),
            (Some(first), n) => Some(format!("{n} files are left out of merging: {first}")),
            (None, _) => {
                self.waits.as_ref().map(|why| format!("files of the store are not merged: {why}"))
            }
        }
    }
}

/// Wakes the upkeep and stops it.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    rung: bool,
    stop: bool,
}

impl Bell {
    /// There may be something to do.
    pub(super) fn ring(&self) {
        self.state.lock().rung = true;
        self.wake.notify_all();
    }

    /// Ends the upkeep between two batches.
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_all();
    }

    fn stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Waits until it is rung.
    fn wait(&self, most: Duration) {
        let mut state = self.state.lock();
        if !state.rung && !state.stop {
            self.wake.wait_for(&mut state, most);
        }
        state.rung = false;
    }

    /// Waits so long, rung or not; only a stop ends it.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.stop && !self.wake.wait_until(&mut state, until).timed_out() {}
    }
}

/// Starts the thread.
pub(super) fn start(
    shared: Arc<Shared>,
    config: &EmbeddedConfig,
    outside: Upkeep,
    bell: Arc<Bell>,
) -> std::io::Result<JoinHandle<()>> {
    let keeper = Keeper::new(shared, config, outside, bell);
    std::thread::Builder::new().name("store-upkeep".to_owned()).spawn(move || keeper.run())
}

/// What came of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There may be more to do.
    Again,
    /// Not before this time, or until a flush.
    Rest(Duration),
    /// Not before this time.
    Pause(Duration),
}

/// The thread's state.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    config: EmbeddedConfig,
    outside: Upkeep,
    bell: Arc<Bell>,
    /// Files that could not be read, and how often.
    unread: BTreeMap<u64, u32>,
    /// A step whose files are written and whose commit failed.
    uncommitted: Option<(Box<Edit>, Done)>,
    /// By partition the newest file of a flush, and when it was seen first.
    arrivals: BTreeMap<Partition, (u64, i64)>,
    /// The pause after a failure; each further one doubles it.
    retry: Duration,
    expiry_looked_for: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: &EmbeddedConfig,
        outside: Upkeep,
        bell: Arc<Bell>,
    ) -> Self {
        Self {
            shared,
            retry: config.retry_first,
            config: config.clone(),
            outside,
            bell,
            unread: BTreeMap::new(),
            uncommitted: None,
            arrivals: BTreeMap::new(),
            expiry_looked_for: None,
        }
    }

    fn run(mut self) {
        // Of this thread only; the disk's scheduler takes its order from it as well.
        if let Err(e) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(error = %e, "the store's upkeep runs at an ordinary priority");
        }
        while !self.bell.stopped() {
            self.expire();
            let turn = self.turn();
            self.shared.clear_graves();
            self.record();
            match turn {
                Turn::Again => {}
                Turn::Rest(most) => self.bell.wait(most),
                Turn::Pause(time) => self.bell.pause(time),
            }
        }
        self.shared.clear_graves();
    }

    /// Takes one step of compaction, if there is one to take.
    pub(super) fn turn(&mut self) -> Turn {
        let compaction = self.config.compaction;
        if !compaction.enabled {
            return Turn::Rest(LOOK);
        }
        let since = Instant::now();
        let (table, done) = match self.uncommitted.take() {
            Some((edit, done)) => {
                let table = edit.add.first().map(|file| file.table);
                (table, compact::commit(&self.shared, *edit, done))
            }
            None => {
                let contents = Arc::clone(&self.shared.state.read().files);
                let left_alone: BTreeSet<u64> = {
                    // What retention has deleted troubles nobody any more.
                    let mut trouble = self.shared.trouble.lock();
                    trouble.left_alone.retain(|id, _| contents.files.contains_key(id));
                    trouble.left_alone.keys().copied().collect()
                };
                let settles = self.settled(&contents);
                let policy = policy(&compaction);
                let job = plan(&contents, &policy, &left_alone, |of| settles.contains(&of));
                drop(contents);
                let Some(job) = job else {
                    self.trouble(None);
                    return Turn::Rest(LOOK);
                };
                let mut pace = Pace::new(&self.bell, compaction.share_percent);
                let mut leave = Leave {
                    floor_bytes: self.outside.free_floor_bytes,
                    go_on: &mut || pace.go_on(),
                };
                (Some(job.partition.0), compact::run(&self.shared, &job, &mut leave))
            }
        };
        self.after(table, since.elapsed(), done)
    }

    fn after(
        &mut self,
        table: Option<Table>,
        took: Duration,
        done: Result<Done, CompactError>,
    ) -> Turn {
        let table = table.map_or("none", Table::as_str);
        let error = match done {
            Ok(done) => {
                metrics::counter!("loushan_store_compactions_total", "table" => table).increment(1);
                metrics::counter!("loushan_store_compaction_read_bytes_total")
                    .increment(done.bytes_in);
                metrics::counter!("loushan_store_compaction_written_bytes_total")
                    .increment(done.bytes_out);
                metrics::counter!("loushan_store_compaction_rows_total").increment(done.rows_out);
                metrics::histogram!("loushan_store_compaction_seconds").record(took);
                tracing::debug!(table, ?took, ?done, "files were merged");
                self.retry = self.config.retry_first;
                self.trouble(None);
                return Turn::Again;
            }
            Err(error) => error,
        };
        let reason = match &error {
            CompactError::Stopped => return Turn::Again,
            CompactError::Overtaken => return Turn::Again,
            CompactError::NoRoom { .. } => "no_room",
            CompactError::LeaveAlone { .. } => "left_alone",
            CompactError::Io { .. } | CompactError::Unread { .. } | CompactError::Commit { .. } => {
                "io"
            }
            CompactError::Rows { .. } | CompactError::Encode { .. } => "defect",
        };
        metrics::counter!("loushan_store_compaction_failures_total", "reason" => reason)
            .increment(1);
        let what = error.to_string();
        match error {
            CompactError::LeaveAlone { id, .. } => return self.leave_alone(id, what),
            CompactError::Unread { id, .. } => {
                let times = self.unread.entry(id).or_default();
                *times += 1;
                if *times >= READS {
                    return self.leave_alone(id, what);
                }
            }
            CompactError::Commit { edit, done, .. } => self.uncommitted = Some((edit, done)),
            _ => {}
        }
        self.trouble(Some(what));
        let pause = self.retry;
        self.retry = (self.retry * 2).min(self.config.retry_longest.max(LOOK));
        Turn::Pause(pause)
    }

    /// One file must not keep all others from being merged.
    fn leave_alone(&mut self, id: u64, what: String) -> Turn {
        tracing::error!(file = what, "a file of the store is left out of merging");
        self.unread.remove(&id);
        self.shared.trouble.lock().left_alone.insert(id, what);
        Turn::Again
    }

    fn trouble(&self, waits: Option<String>) {
        let mut trouble = self.shared.trouble.lock();
        if let Some(why) = waits.as_ref().filter(|_| trouble.waits.is_none()) {
            tracing::warn!(why, "files of the store are not merged");
        }
        trouble.waits = waits;
    }

    /// The partitions whose day is over and to which nothing came lately.
    fn settled(&mut self, contents: &Contents) -> BTreeSet<Partition> {
        let now = self.outside.clock.now().ms();
        let mut newest: BTreeMap<Partition, u64> = BTreeMap::new();
        for file in contents.files.values() {
            let newest = newest.entry((file.table, file.day)).or_default();
            if file.level == Level::Flushed {
                *newest = file.id.max(*newest);
            }
        }
        self.arrivals.retain(|partition, _| newest.contains_key(partition));
        let quiet = i64::try_from(self.config.compaction.quiet.as_millis()).unwrap_or(i64::MAX);
        let mut settled = BTreeSet::new();
        for (partition, newest) in newest {
            let arrival = self.arrivals.entry(partition).or_insert((newest, now));
            if arrival.0 < newest {
                *arrival = (newest, now);
            }
            let day_over = now.div_euclid(DAY_MS) > partition.1;
            if day_over && now.saturating_sub(arrival.1) >= quiet {
                settled.insert(partition);
            }
        }
        settled
    }

    /// Removes what has expired, when it is time to look.
    fn expire(&mut self) {
        let looked = self.expiry_looked_for.map(|at| at.elapsed());
        if self.shared.retention.is_none() || looked.is_some_and(|since| since < RETENTION) {
            return;
        }
        match retain::run(&self.shared, &self.shared.retention, self.outside.clock.now().ms()) {
            Ok(_) => self.expiry_looked_for = Some(Instant::now()),
            // Disk that is not freed; the next look tries again.
            Err(e) => tracing::warn!(error = %e, "expired partitions cannot be removed"),
        }
    }

    /// Figures that are looked up.
    #[allow(clippy::cast_precision_loss)] // gauges are doubles
    fn record(&self) {
        let contents = Arc::clone(&self.shared.state.read().files);
        let mut tables: BTreeMap<Table, (TableStats, i64)> = Table::ALL
            .into_iter()
            .map(|table| (table, (TableStats::default(), i64::MAX)))
            .collect();
        for file in contents.files.values() {
            if let Some((stats, oldest)) = tables.get_mut(&file.table) {
                stats.files += 1;
                stats.rows += file.rows;
                stats.bytes += file.bytes;
                *oldest = file.day.min(*oldest);
            }
        }
        for (table, (stats, oldest)) in tables {
            let label = [("table", table.as_str())];
            metrics::gauge!("loushan_store_files", &label).set(stats.files as f64);
            metrics::gauge!("loushan_store_rows", &label).set(stats.rows as f64);
            metrics::gauge!("loushan_store_bytes", &label).set(stats.bytes as f64);
            let oldest = if stats.files == 0 { 0 } else { oldest.saturating_mul(DAY_MS / 1000) };
            metrics::gauge!("loushan_store_oldest_day_timestamp_seconds", &label)
                .set(oldest as f64);
        }
        let (files, bytes) = self.shared.graves.waiting();
        metrics::gauge!("loushan_store_removed_files_read").set(files as f64);
        metrics::gauge!("loushan_store_removed_bytes_read").set(bytes as f64);
        let left_alone = self.shared.trouble.lock().left_alone.len();
        metrics::gauge!("loushan_store_files_left_alone").set(left_alone as f64);
    }
}

fn policy(config: &CompactionConfig) -> Policy {
    Policy {
        min_files: config.min_files,
        target_bytes: config.target_bytes,
        memory_bytes: config.memory_bytes,
    }
}

/// Works a share of the time.
struct Pace<'a> {
    bell: &'a Bell,
    share_percent: u32,
    since: Instant,
}

impl<'a> Pace<'a> {
    fn new(bell: &'a Bell, share_percent: u32) -> Self {
        Self { bell, share_percent: share_percent.clamp(1, 100), since: Instant::now() }
    }

    /// Between two batches: rests for what was worked. `false` when the work is to end.
    fn go_on(&mut self) -> bool {
        let worked = self.since.elapsed();
        let rest = worked * (100 - self.share_percent) / self.share_percent;
        if rest >= PAUSE {
            self.bell.pause(rest);
            self.since = Instant::now();
        }
        !self.bell.stopped()
    }
}
