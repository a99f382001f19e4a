//! The sockets a service serves on, and the certificates that are read again while it does.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use loushan_broker::auth::Transport;
use loushan_broker::listen::Listener;
use loushan_broker::listen::tls::{Tls, TlsError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, variable};

/// How often certificate files are looked at: a signal is not needed, only quicker.
const LOOK: Duration = Duration::from_secs(5);

/// Why there are no listeners.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not to be had.
    #[error(
        "cannot listen on {address} ({key}); free the port, or choose another one with {}",
        variable(key)
    )]
    Bind {
        /// The key that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Everything the service listens on.
#[derive(Debug)]
pub struct Listeners {
    /// MQTT.
    pub mqtt: Vec<Listener>,
    /// HTTP.
    pub http: TcpListener,
    /// HTTP's TLS.
    pub http_tls: Option<Tls>,
    /// All TLS there is, for reloading.
    pub tls: Vec<Tls>,
}

impl Listeners {
    /// Reads the certificates and takes the ports.
    ///
    /// # Errors
    /// When a file cannot be used, or a port cannot be had.
    pub async fn open(config: &Config) -> Result<Self, ListenError> {
        let load = |files: &Option<_>| files.clone().map(Tls::load).transpose();
        let (mqtt_tls, http_tls) = (load(&config.mqtt_tls)?, load(&config.http_tls)?);
        let listen = config.mqtt_listen;
        let mut mqtt = Vec::new();
        for (key, address, _) in listen.all() {
            let socket = bind(key, address).await?;
            mqtt.push(match (key, &mqtt_tls) {
                ("mqtt.tls_listen", Some(tls)) => Listener::tls(socket, tls.clone()),
                ("mqtt.wss_listen", Some(tls)) => Listener::secure_web_socket(socket, tls.clone()),
                ("mqtt.ws_listen", _) => Listener::web_socket(socket),
                // The configuration has no TLS address without files.
                _ => Listener::tcp(socket),
            });
        }
        let http = bind("http.listen", config.http_listen).await?;
        let tls = mqtt_tls.into_iter().chain(http_tls.clone()).collect();
        Ok(Self { mqtt, http, http_tls, tls })
    }
}

impl Listeners {
    /// Where what is spoken, by scheme.
    ///
    /// # Errors
    /// The operating system's.
    pub fn addresses(&self) -> io::Result<Vec<(&'static str, SocketAddr)>> {
        let mut addresses = Vec::new();
        for listener in &self.mqtt {
            let scheme = match listener.transport() {
                Transport::Tcp => "mqtt",
                Transport::Tls => "mqtts",
                Transport::WebSocket => "ws",
                Transport::SecureWebSocket => "wss",
            };
            addresses.push((scheme, listener.local_addr()?));
        }
        let scheme = if self.http_tls.is_some() { "https" } else { "http" };
        addresses.push((scheme, self.http.local_addr()?));
        Ok(addresses)
    }
}

/// Files that the process has open beside connections: segments, the store's, and what serves
/// questions.
const SPARE_FILES: u64 = 512;

/// Lets the process open as many files as it may at all: what shells and supervisors leave it by
/// default, often 1024, is far from `mqtt.max_connections`. Says so where it still is not enough.
pub fn raise_file_limit(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let wanted = (config.broker.max_connections as u64)
        .saturating_add(config.http.connections as u64)
        .saturating_add(SPARE_FILES);
    if let Some(files) = now.filter(|files| *files < wanted) {
        tracing::warn!(
            files,
            wanted,
            "the limit on open files comes before mqtt.max_connections does; raise it (ulimit -n, \
             LimitNOFILE) or lower the key"
        );
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::Bind { key, address, source })
}

#[allow(clippy::cast_precision_loss)] // seconds
fn note_expiry(tls: &Tls) {
    if let Some(expires) = tls.expires() {
        metrics::gauge!("loushan_certificate_expiry_timestamp_seconds", "section" => tls.section())
            .set(expires as f64);
    }
}

/// Reads certificates again on SIGHUP and when their files have changed. Never ends.
pub(super) async fn reload(all: Vec<Tls>) {
    // A process that cannot hear the signal looks all the same.
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut told = vec![String::new(); all.len()];
    all.iter().for_each(note_expiry);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Some(()) = async { hangup.as_mut()?.recv().await } => {}
        }
        for (tls, told) in all.iter().zip(&mut told) {
            let reading = tls.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || reading.reload()).await else {
                continue;
            };
            let result = match read {
                Ok(false) => {
                    told.clear();
                    continue;
                }
                Ok(true) => {
                    told.clear();
                    note_expiry(tls);
                    tracing::info!("new certificates are in use");
                    "ok"
                }
                Err(error) => {
                    // Once, and not with every look.
                    let error = error.to_string();
                    if error == *told {
                        continue;
                    }
                    tracing::error!(error, "the certificates of before stay in use");
                    *told = error;
                    "failed"
                }
            };
            metrics::counter!("loushan_certificate_reloads_total", "result" => result).increment(1);
        }
    }
}
