//! `serve`: the service, until a signal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use loushan_ingest::clock::Clock;
use loushan_ingest::config::{Config, variable};
use loushan_ingest::io::Io as _;
use loushan_ingest::io::real::RealIo;
use loushan_ingest::lock::DataLock;
use loushan_ingest::service::{Listeners, Outside, Service, Stopped, broker_dir, raise_file_limit};

use super::{Failure, block_on, config, events, signals};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file; see print-config. Without one the defaults hold, on loopback.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = config::load(args.config.as_deref(), Vec::new())?;
    events::start(&config.tracing)?;
    block_on(async {
        let stop = signals::stop_on_signal()?;
        let running = Place::take(config).await?.start().await?;
        signals::reload_on_hangup(running.service.directory())?;
        running.announce();
        ended(&running.service.run(stop).await)
    })
}

/// Ports and data folder, ours from here on.
pub(super) struct Place {
    config: Config,
    listeners: Listeners,
    lock: DataLock,
}

impl Place {
    pub(super) async fn take(config: Config) -> Result<Self, Failure> {
        raise_file_limit(&config);
        // The ports first: that one is taken is noticed before a folder is made.
        let listeners = Listeners::open(&config).await?;
        let data = &config.data_dir;
        RealIo.create_dir_all(data).with_context(|| {
            let key = variable("data.dir");
            format!("the data folder {} cannot be made; set data.dir ({key})", data.display())
        })?;
        let lock = DataLock::take(data)?;
        Ok(Self { config, listeners, lock })
    }

    /// The data folder.
    pub(super) fn data(&self) -> &Path {
        &self.config.data_dir
    }

    pub(super) async fn start(self) -> Result<Running, Failure> {
        let Self { config, listeners, lock } = self;
        let data = config.data_dir.clone();
        let addresses = listeners.addresses()?;
        let io = Arc::new(RealIo);
        let outside = Outside {
            listeners,
            clock: Clock::System,
            io,
            sessions: Some(broker_dir(&config.data_dir)),
            lock: Some(lock),
        };
        let service = Service::start(config, outside).await?;
        Ok(Running { service, addresses, data })
    }
}

/// The service on its sockets.
pub(super) struct Running {
    pub(super) service: Service,
    /// By scheme.
    addresses: Vec<(&'static str, SocketAddr)>,
    data: PathBuf,
}

impl Running {
    /// Where MQTT is spoken without TLS or WebSocket.
    pub(super) fn mqtt(&self) -> Option<SocketAddr> {
        self.addresses.iter().find(|(scheme, _)| *scheme == "mqtt").map(|(_, address)| *address)
    }

    /// Says where it can be reached, once it can.
    pub(super) fn announce(&self) {
        for (scheme, address) in &self.addresses {
            let what = if scheme.starts_with("http") { "HTTP" } else { "MQTT" };
            println!("{what}  {scheme}://{address}");
        }
        println!("data  {}", whole(&self.data).display());
    }
}

/// The exit code of a service that has ended.
pub(super) fn ended(stopped: &Stopped) -> Result<ExitCode, Failure> {
    if let Some(failed) = &stopped.failed {
        return Err(Failure::Failed(anyhow!("the service stopped because of {failed}")));
    }
    for left in &stopped.left {
        eprintln!("loushan: left undone: {}: {}", left.step, left.what);
    }
    Ok(if stopped.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The path from the root, where that can be told.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
