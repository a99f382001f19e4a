//! Opening the data folder: what each part needs of the others decides the order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use loushan_broker::auth::{BearerToken, Directory};
use loushan_broker::{Broker, persist};
use loushan_schemas::ids::StationId;
use tokio::sync::watch;

use super::quota::Quotas;
use super::sinks::{Opening, Server, Trimmer, open_sink};
use super::stored::Stored;
use super::view::ServiceView;
use super::{StartError, alarms_dir, dead_letter_dir, store_dir};
use crate::alarm::{AlarmSink, Hearing, Place, Sites};
use crate::clock::Clock;
use crate::commands::Commands;
use crate::config::Config;
use crate::http::auth::admin_token;
use crate::io::Io;
use crate::live::Live;
use crate::pipeline::keeper::Keeper;
use crate::pipeline::{self, Pipeline};
use crate::readiness::{Component, Condition, Health};
use crate::registry::{Loaded, Registry, RegistryLimits};
use crate::sink::dead_letter::DeadLetterSink;
use crate::sink::embedded::{EmbeddedSink, Store, Upkeep};
use crate::sink::influx::InfluxSink;
use crate::sink::{SinkState, SinkStatus};

/// Everything opened, nothing running but the log's threads.
pub(super) struct Opened {
    pub(super) view: Arc<ServiceView>,
    pub(super) admin_token: BearerToken,
    pub(super) keeper: Keeper,
    pub(super) embedded: Local<EmbeddedSink>,
    pub(super) dead_letter: Local<DeadLetterSink>,
    /// Where they are switched on.
    pub(super) alarms: Option<Local<AlarmSink>>,
    /// Those that write to servers; one that was removed is not opened.
    pub(super) servers: Vec<(Server, Option<InfluxSink>)>,
    pub(super) trimmer: Arc<Trimmer>,
}

/// A sink of our own disk.
pub(super) struct Local<S> {
    pub(super) sink: S,
    pub(super) status: Arc<SinkStatus>,
    pub(super) paused: watch::Receiver<bool>,
}

/// Opens the data folder. Blocks.
pub(super) fn open(
    config: &Config,
    clock: &Clock,
    io: &Arc<dyn Io>,
    sessions: Option<PathBuf>,
) -> Result<Opened, StartError> {
    let data = &config.data_dir;
    // Folders in it that a killed process made may have no durable names yet.
    io.create_dir_all(data)
        .and_then(|()| io.sync_dir(data))
        .map_err(|source| StartError::Io { path: data.clone(), source })?;
    // A fault in a file of users is told before a long log has been read.
    let clock_of_tokens = clock.clone();
    let now = move || {
        let ns = u64::try_from(clock_of_tokens.now().ns()).unwrap_or(0);
        UNIX_EPOCH + Duration::from_nanos(ns)
    };
    let directory = Directory::open(config.auth.clone(), Arc::new(now))?;
    let admin_token = admin_token(&**io, data)?;
    let registry = Arc::new(Registry::new(RegistryLimits::default()));
    load_stations(config, &**io, &registry)?;
    let of_stations = Arc::clone(&registry);
    let directory = Arc::new(directory.with_projects(Arc::new(move |station| {
        of_stations.project_of(&StationId::new(station).ok()?)
    })));

    let known = Store::peek(&**io, &store_dir(data))?;
    let (cursor, floor) =
        known.map_or((0, 0), |info| (info.cursor, info.next_lsn.saturating_sub(1)));
    let stored = Arc::new(Stored::new(cursor));
    let parts = pipeline::Parts {
        io: Arc::clone(io),
        dir: data.clone(),
        clock: clock.clone(),
        stored: Arc::clone(&stored) as _,
        floor: floor.max(cursor),
        registry: Arc::clone(&registry),
    };
    let pipeline::Opened { pipeline, keeper, recovery, replayed, distrusts } =
        Pipeline::open(parts, config.pipeline.clone())?;
    tracing::info!(
        frames = recovery.frames,
        replayed,
        corrupt_frames = recovery.corrupt_frames,
        torn_bytes = recovery.torn_bytes,
        rewritten_frames = recovery.rewritten_frames,
        "the log was recovered"
    );
    for path in &recovery.set_aside {
        tracing::error!(path = %path.display(), "corrupt bytes of the log were set aside");
    }
    let log_id = pipeline.log().id();
    let health = Arc::new(Health::default());
    if distrusts {
        let what = "no snapshot of the pipeline's state goes with the log: the store is asked for \
                    every reading that comes, which is slower; counters' earlier values are unknown";
        health.set(Component::Pipeline, Some(Condition::amber(what)));
    }
    let gap = Gap {
        begins_after: pipeline.log().stats().begins_after.0,
        // What a bad disk took is gone, was reported, and is no reason to take nothing more.
        explained: recovery.corrupt_headers > 0,
        health: &health,
    };
    let mut sinks = Opening::new(io, data, &config.sinks)?;
    // Before the store is opened: it deletes files that its manifest does not name.
    gap.check(Component::Embedded, "embedded", known.map(|info| info.cursor), || {
        Some(
            "the store's MANIFEST has lost its end, or is older than the log; bring the matching \
              data folder back"
                .to_owned(),
        )
    })?;

    let (store, embedded) =
        Store::open(Arc::clone(io), &store_dir(data), config.embedded.clone(), log_id)?;
    stored.opened(store.clone());
    let upkeep =
        Upkeep { clock: clock.clone(), free_floor_bytes: config.pipeline.log.free_floor_bytes };
    let embedded = embedded.with_upkeep(upkeep);
    let status = SinkStatus::new("embedded");
    let paused = sinks.local(&status);
    let embedded = Local { sink: embedded, status, paused };

    let status = SinkStatus::new("dead_letter");
    let dead_letter = DeadLetterSink::open(
        Arc::clone(io),
        dead_letter_dir(data),
        config.dead_letter,
        log_id.to_bytes(),
        Arc::clone(&status),
    )?;
    // Its files may be damaged, and are passed over then.
    gap.check(Component::DeadLetter, "dead_letter", Some(dead_letter.cursor()), || None)?;
    let paused = sinks.local(&status);
    let dead_letter = Local { sink: dead_letter, status, paused };
    let mut alarms = None;
    if config.alarms.enabled {
        let status = SinkStatus::new("alarms");
        let pipeline = Arc::clone(&pipeline);
        let listen = move || {
            let log = pipeline.log();
            let durable = log.durable().0;
            Hearing {
                durable,
                hears: log.stats().refuses.is_none(),
                waits: log.next_lsn().0.saturating_sub(1) > durable,
            }
        };
        let parts = crate::alarm::Parts {
            io: Arc::clone(io),
            clock: clock.clone(),
            log_id: log_id.to_bytes(),
            sites: sites(&registry),
            listen: Arc::new(listen),
            status: Arc::clone(&status),
        };
        let sink = AlarmSink::open(&alarms_dir(data), config.alarms.clone(), parts)?;
        // It may have been switched off for a while, or be new.
        let cursor = Some(sink.cursor()).filter(|cursor| *cursor > 0);
        gap.check(Component::Alarms, "alarms", cursor, || None)?;
        let paused = sinks.local(&status);
        alarms = Some(Local { sink, status, paused });
    }
    sinks.snapshot(keeper.status());

    let mut servers = Vec::new();
    for config in &config.sinks {
        let server = sinks.server(&**io, data, config)?;
        let (dir, status) = (&server.dir, &server.status);
        if status.state() == SinkState::Removed {
            servers.push((server, None));
            continue;
        }
        let name = &config.name;
        let sink = open_sink(io, dir, config, log_id.to_bytes(), status)
            .map_err(|source| StartError::Sink { name: Arc::clone(name), source })?;
        // A paused one is given no feed yet, and holds the log all the same.
        status.hold_from(sink.cursor());
        // It may have been switched off for a while, or be new.
        let cursor = Some(sink.cursor()).filter(|cursor| *cursor > 0);
        let notice = gap.what(name, cursor, || {
            Some(format!(
                "what lies between is in the embedded store only; remove {} to go on without it, and \
                 replay it when the service runs (loushan replay --sink {name})",
                dir.join("cursor").display()
            ))
        })?;
        if let Some(notice) = notice {
            tracing::warn!(notice, "a sink begins behind the log's beginning");
            status.set_notice(Some(format!("{name}: {notice}")));
        }
        servers.push((server, Some(sink)));
    }

    // Lsns given out again would be passed over by whoever has seen them before.
    let end = pipeline.log().next_lsn().0.saturating_sub(1);
    let mut cursors: Vec<(Arc<str>, u64)> = vec![
        (Arc::clone(embedded.status.name()), embedded.sink.cursor()),
        (Arc::clone(dead_letter.status.name()), dead_letter.sink.cursor()),
    ];
    let of_alarms = alarms.iter().map(|it| (Arc::clone(it.status.name()), it.sink.cursor()));
    cursors.extend(of_alarms);
    cursors.extend(servers.iter().filter_map(|(server, sink)| {
        Some((Arc::clone(&server.config.name), sink.as_ref()?.cursor()))
    }));
    if let Some((sink, cursor)) = cursors.into_iter().find(|(_, cursor)| *cursor > end) {
        return Err(StartError::LogBehind { sink, cursor, end });
    }

    let sinks = sinks.done();
    let trimmer = Arc::new(Trimmer::new(
        Arc::clone(&pipeline),
        Arc::clone(&sinks),
        Arc::clone(io),
        data.clone(),
        clock.clone(),
        config.pipeline.log.clone(),
        config.keep,
    ));
    let clock_of_sessions = clock.clone();
    let sessions = persist::Opened::open(persist::StoreOptions {
        folder: sessions,
        clock: Arc::new(move || u64::try_from(clock_of_sessions.now().ms()).unwrap_or(0)),
    })?;
    let broker = Arc::new(Broker::restored(
        config.broker.clone(),
        Arc::clone(&pipeline) as _,
        Arc::clone(&directory) as _,
        Some(sessions),
    ));
    let commands = Commands::new(Arc::clone(&broker), Arc::clone(&registry), clock.clone());
    let live = Arc::new(Live::new(config.live, Arc::clone(&registry), clock.clone()));
    let acks = broker.ack_latencies();
    let view = Arc::new(ServiceView {
        broker,
        commands,
        directory,
        pipeline,
        store,
        registry,
        sinks,
        health,
        sync: config.pipeline.log.sync,
        clock: clock.clone(),
        io: Arc::clone(io),
        data: data.clone(),
        alarms: alarms.as_ref().map(|it| it.sink.alarms().clone()),
        letters_turn: parking_lot::Mutex::new(()),
        log_options: config.pipeline.log.clone(),
        pipeline_options: config.pipeline.clone(),
        flush_bytes: config.embedded.flush_bytes,
        dead_letter_bound: config.dead_letter.total_bytes,
        live,
        acks,
        quotas: Quotas::default(),
        limits: config.limits.clone(),
    });
    Ok(Opened { view, admin_token, keeper, embedded, dead_letter, alarms, servers, trimmer })
}

/// What the registry says of stations, as far as alarms need it.
fn sites(registry: &Registry) -> Sites {
    let stations = registry.stations().into_iter();
    let sites = stations.filter_map(|it| {
        let site = it.site?;
        Some((it.station, Place { project: site.project.into(), area: site.area.into() }))
    });
    sites.collect()
}

/// Whether the log still has what a sink has not taken in.
struct Gap<'a> {
    begins_after: u64,
    explained: bool,
    health: &'a Health,
}

impl Gap<'_> {
    /// Says it for as long as the service runs.
    fn check(
        &self,
        component: Component,
        sink: &str,
        cursor: Option<u64>,
        remedy: impl FnOnce() -> Option<String>,
    ) -> Result<(), StartError> {
        if let Some(what) = self.what(sink, cursor, remedy)? {
            self.health.set(component, Some(Condition::amber(what)));
        }
        Ok(())
    }

    /// A gap behind a sink's cursor is an error if something helps against it. Otherwise, and where
    /// the sink begins anew, it is to be said: it is never passed over in silence.
    fn what(
        &self,
        sink: &str,
        cursor: Option<u64>,
        remedy: impl FnOnce() -> Option<String>,
    ) -> Result<Option<String>, StartError> {
        let begins_after = self.begins_after;
        if cursor.unwrap_or(0) >= begins_after {
            return Ok(None);
        }
        let what = match (cursor, remedy()) {
            (Some(cursor), Some(remedy)) if !self.explained => {
                let sink = sink.into();
                return Err(StartError::LogShortened { sink, cursor, begins_after, remedy });
            }
            (Some(cursor), _) => format!(
                "it had taken in the log up to lsn {cursor}, and frames up to {begins_after} were \
                 deleted from the log: it has none of what lies between"
            ),
            (None, _) => format!(
                "it begins anew, and frames up to lsn {begins_after} were deleted from the log: it \
                 has none of them"
            ),
        };
        Ok(Some(what))
    }
}

/// Reads what the files of stations and of projects say.
fn load_stations(config: &Config, io: &dyn Io, registry: &Registry) -> Result<(), StartError> {
    let read = |named: &Option<PathBuf>, name: &str, load: Load| {
        let path = match named {
            Some(path) => path.clone(),
            None => {
                let path = config.data_dir.join(name);
                let there = io.exists(&path);
                if !there.map_err(|source| StartError::Io { path: path.clone(), source })? {
                    return Ok(());
                }
                path
            }
        };
        let loaded = load(registry, io, &path)
            .map_err(|source| StartError::Io { path: path.clone(), source })?;
        for bad in &loaded.bad {
            tracing::warn!(file = %path.display(), %bad, "a line of the file was left out");
        }
        tracing::info!(file = %path.display(), lines = loaded.taken, "a file was read");
        Ok(())
    };
    read(&config.stations_file, "stations.csv", Registry::load_file)?;
    read(&config.projects_file, "projects.csv", Registry::load_quotas_file)
}

type Load = fn(&Registry, &dyn Io, &Path) -> std::io::Result<Loaded>;
