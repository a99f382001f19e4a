//! The configuration the service runs on: typed, complete, and checked as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::fault::{Fault, Faults, Origin};
use super::raw::{Raw, variable};
use super::table::{Secret, Setting};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The data folder.
    pub data_dir: PathBuf,
    /// `[mqtt]`.
    pub mqtt: Mqtt,
    /// `[http]`.
    pub http: Http,
    /// `[log]`.
    pub log: Log,
    /// `[pipeline]`.
    pub pipeline: Pipeline,
    /// `[sink.embedded]`.
    pub embedded: Embedded,
    /// `[sink.influx]`, where it is on.
    pub influx: Option<Influx>,
    /// `[dead_letter]`.
    pub dead_letter: DeadLetter,
    /// `[stations] file`, where it is set.
    pub stations_file: Option<PathBuf>,
    /// `[tracing]`.
    pub tracing: Tracing,
    /// `[shutdown] deadline`.
    pub shutdown_deadline: Duration,
}

/// The broker's address and bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Connections at a time.
    pub max_connections: usize,
}

/// The HTTP side's address and bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Exports at a time.
    pub max_exports: usize,
}

/// When the log syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before every acknowledgement.
    Always,
    /// Every so often; a power loss may take what was acknowledged since.
    Interval(Duration),
}

/// The log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// When it syncs.
    pub sync: Sync,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes waiting to be written.
    pub buffer_bytes: usize,
    /// Free bytes below which it takes nothing more.
    pub free_disk_floor: u64,
}

/// The pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Bytes of durable frames kept in memory for sinks.
    pub tail_bytes: usize,
    /// How often its state is written.
    pub snapshot_interval: Duration,
}

/// The embedded store.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// The longest a row waits for its file.
    pub flush_interval: Duration,
    /// Bytes in memory that end the wait.
    pub flush_bytes: usize,
}

/// The InfluxDB v2 server.
#[derive(Debug, Clone, PartialEq)]
pub struct Influx {
    /// Its address.
    pub url: Url,
    /// The organisation.
    pub org: String,
    /// The bucket.
    pub bucket: String,
    /// The API token.
    pub token: Secret,
    /// Points of a request at most.
    pub batch_points: usize,
    /// Bytes of a request at most.
    pub batch_bytes: usize,
    /// How long a point waits for others.
    pub batch_age: Duration,
    /// How long the server may take.
    pub timeout: Duration,
}

/// The dead letter's quotas.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Raw bytes in all.
    pub total_bytes: u64,
    /// Raw bytes of one station.
    pub station_bytes: u64,
}

/// How events are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// JSON instead of lines for people.
    pub json: bool,
    /// The filter.
    pub level: String,
}

impl Config {
    /// Reads file and environment. The file's text and the variables come from the caller.
    ///
    /// # Errors
    /// All faults there are.
    pub fn read(
        file: Option<&str>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        let mut raw = Raw::read(file, environment);
        raw.require();
        let mut faults = std::mem::take(&mut raw.faults);
        let config = resolve(&raw);
        if let Some(config) = &config {
            faults.extend(contradictions(config, &raw));
        }
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => {
                faults.sort_by(|a, b| a.origin.cmp(&b.origin));
                Err(Faults(faults))
            }
        }
    }
}

/// `None` only where something required is missing, which is among the faults already.
fn resolve(raw: &Raw) -> Option<Config> {
    let values = Values(raw);
    Some(Config {
        data_dir: values.path("data.dir")?,
        mqtt: Mqtt {
            listen: values.address("mqtt.listen")?,
            max_connections: values.count("mqtt.max_connections")?,
        },
        http: Http {
            listen: values.address("http.listen")?,
            max_exports: values.count("http.max_exports")?,
        },
        log: Log {
            sync: match values.text("log.sync")?.as_str() {
                "interval" => Sync::Interval(values.duration("log.sync_interval")?),
                _ => Sync::Always,
            },
            segment_bytes: values.bytes("log.segment_bytes")?,
            buffer_bytes: values.count("log.buffer_bytes")?,
            free_disk_floor: values.bytes("log.free_disk_floor")?,
        },
        pipeline: Pipeline {
            tail_bytes: values.count("pipeline.tail_bytes")?,
            snapshot_interval: values.duration("pipeline.snapshot_interval")?,
        },
        embedded: Embedded {
            flush_interval: values.duration("sink.embedded.flush_interval")?,
            flush_bytes: values.count("sink.embedded.flush_bytes")?,
        },
        influx: if raw.is_on("sink.influx") { Some(influx(&values)?) } else { None },
        dead_letter: DeadLetter {
            total_bytes: values.bytes("dead_letter.total_bytes")?,
            station_bytes: values.bytes("dead_letter.station_bytes")?,
        },
        stations_file: values.path("stations.file"),
        tracing: Tracing {
            json: values.text("tracing.format")? == "json",
            level: values.text("tracing.level")?,
        },
        shutdown_deadline: values.duration("shutdown.deadline")?,
    })
}

fn influx(values: &Values<'_>) -> Option<Influx> {
    Some(Influx {
        url: match values.0.get("sink.influx.url")? {
            Setting::Url(url) => url,
            _ => return None,
        },
        org: values.text("sink.influx.org")?,
        bucket: values.text("sink.influx.bucket")?,
        token: match values.0.get("sink.influx.token")? {
            Setting::Secret(token) => token,
            _ => return None,
        },
        batch_points: values.count("sink.influx.batch_points")?,
        batch_bytes: values.count("sink.influx.batch_bytes")?,
        batch_age: values.duration("sink.influx.batch_age")?,
        timeout: values.duration("sink.influx.timeout")?,
    })
}

/// Faults that no single key has.
fn contradictions(config: &Config, raw: &Raw) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (section, listen) in [("mqtt", config.mqtt.listen), ("http", config.http.listen)] {
        let allow = format!("{section}.allow_insecure");
        if !listen.ip().is_loopback() && raw.get(&allow) != Some(Setting::Bool(true)) {
            let key = format!("{section}.listen");
            faults.push(Fault {
                origin: raw.origin(&key),
                problem: format!(
                    "{listen} can be reached from other machines, and this build has neither \
                     credentials nor TLS to guard it"
                ),
                remedy: format!(
                    "listen on 127.0.0.1 or [::1], or take the risk with allow_insecure = true in \
                     [{section}] ({})",
                    variable(&allow)
                ),
                key,
            });
        }
    }
    let same_port = config.mqtt.listen == config.http.listen && config.mqtt.listen.port() != 0;
    if same_port {
        faults.push(Fault {
            key: "http.listen".to_owned(),
            origin: raw.origin("http.listen"),
            problem: format!("{} is the address of mqtt.listen too", config.http.listen),
            remedy: "give each a port of its own".to_owned(),
        });
    }
    if config.dead_letter.station_bytes > config.dead_letter.total_bytes {
        faults.push(Fault {
            key: "dead_letter.station_bytes".to_owned(),
            origin: match raw.origin("dead_letter.station_bytes") {
                Origin::Default => raw.origin("dead_letter.total_bytes"),
                origin => origin,
            },
            problem: "one station's quota is greater than dead_letter.total_bytes".to_owned(),
            remedy: "lower it, or raise dead_letter.total_bytes".to_owned(),
        });
    }
    faults
}

/// Typed access. `None` where the key has no value; a key of another kind has none either, and a
/// test resolves every key.
struct Values<'a>(&'a Raw);

impl Values<'_> {
    fn text(&self, path: &str) -> Option<String> {
        match self.0.get(path)? {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }

    fn path(&self, path: &str) -> Option<PathBuf> {
        match self.0.get(path)? {
            Setting::Path(path) => Some(path),
            _ => None,
        }
    }

    fn address(&self, path: &str) -> Option<SocketAddr> {
        match self.0.get(path)? {
            Setting::Address(address) => Some(address),
            _ => None,
        }
    }

    fn bytes(&self, path: &str) -> Option<u64> {
        match self.0.get(path)? {
            Setting::Number(n) => Some(n),
            _ => None,
        }
    }

    fn count(&self, path: &str) -> Option<usize> {
        self.bytes(path).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    fn duration(&self, path: &str) -> Option<Duration> {
        match self.0.get(path)? {
            Setting::Duration(duration) => Some(duration),
            _ => None,
        }
    }
}
