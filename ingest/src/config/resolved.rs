//! The configuration the service runs on: typed, complete, and checked as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use loushan_broker::auth::{AttemptLimits, AuthConfig, JwtConfig, JwtKeys};
use loushan_broker::config::{BrokerConfig, DeniedPublish};

use super::fault::{Fault, Faults, Origin};
use super::raw::{Raw, variable};
use super::table::Setting;
use crate::pipeline::PipelineOptions;
use crate::pipeline::decide::StateLimits;
use crate::sink::dead_letter::DeadLetterConfig;
use crate::sink::embedded::EmbeddedConfig;
use crate::sink::influx::{InfluxConfig, Token};
use crate::wal::{LogOptions, SyncPolicy};

/// The whole configuration, in the terms of the components it is for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Where MQTT listens.
    pub mqtt_listen: SocketAddr,
    /// The broker's bounds.
    pub broker: BrokerConfig,
    /// Who is let in.
    pub auth: AuthConfig,
    /// Where HTTP listens.
    pub http_listen: SocketAddr,
    /// Exports at a time.
    pub max_exports: usize,
    /// The pipeline's bounds, the log's among them.
    pub pipeline: PipelineOptions,
    /// The embedded store.
    pub embedded: EmbeddedConfig,
    /// The InfluxDB sink, where it is on.
    pub influx: Option<InfluxConfig>,
    /// The dead letter's quotas.
    pub dead_letter: DeadLetterConfig,
    /// The stations file, where one is set.
    pub stations_file: Option<PathBuf>,
    /// How events are written.
    pub tracing: Tracing,
    /// How long an ordered stop may take.
    pub shutdown_deadline: Duration,
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
        mqtt_listen: values.address("mqtt.listen")?,
        broker: broker(&values)?,
        auth: auth(&values)?,
        http_listen: values.address("http.listen")?,
        max_exports: values.count("http.max_exports")?,
        pipeline: pipeline(&values)?,
        embedded: EmbeddedConfig {
            flush_age: values.duration("sink.embedded.flush_age")?,
            flush_rows: values.bytes("sink.embedded.flush_rows")?,
            flush_bytes: values.count("sink.embedded.flush_bytes")?,
            footer_cache_bytes: values.count("sink.embedded.footer_cache_bytes")?,
            ..EmbeddedConfig::default()
        },
        influx: if raw.is_on("sink.influx") { Some(influx(&values)?) } else { None },
        dead_letter: DeadLetterConfig {
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

fn broker(values: &Values<'_>) -> Option<BrokerConfig> {
    Some(BrokerConfig {
        max_connections: values.count("mqtt.max_connections")?,
        connect_timeout: values.duration("mqtt.connect_timeout")?,
        write_timeout: values.duration("mqtt.write_timeout")?,
        drain_timeout: values.duration("mqtt.drain_timeout")?,
        max_packet_bytes: values.count("mqtt.max_packet_bytes")?,
        max_in_flight: u16::try_from(values.bytes("mqtt.max_in_flight")?).unwrap_or(u16::MAX),
        max_in_flight_bytes: values.count("mqtt.max_in_flight_bytes")?,
        total_in_flight_bytes: values.count("mqtt.total_in_flight_bytes")?,
        max_keep_alive: values.duration("mqtt.max_keep_alive")?,
        max_topic_levels: values.count("mqtt.max_topic_levels")?,
        max_topic_bytes: values.count("mqtt.max_topic_bytes")?,
        sys_interval: values.duration("mqtt.sys_interval")?,
        tell_denied: values.0.get("mqtt.tell_denied")? == Setting::Bool(true),
        max_subscriptions: values.count("mqtt.max_subscriptions")?,
        subscriber_queue_bytes: values.count("mqtt.subscriber_queue_bytes")?,
        total_queue_bytes: values.count("mqtt.total_queue_bytes")?,
        max_sessions: values.count("mqtt.max_sessions")?,
        max_session_expiry: values.duration("mqtt.max_session_expiry")?,
        retained_bytes: values.count("mqtt.retained_bytes")?,
        live_feed_bytes: values.count("mqtt.live_feed_bytes")?,
        denied_publish: match values.text("mqtt.denied_publish")?.as_str() {
            "acknowledge" => DeniedPublish::Acknowledge,
            _ => DeniedPublish::Disconnect,
        },
        ..BrokerConfig::default()
    })
}

fn auth(values: &Values<'_>) -> Option<AuthConfig> {
    let jwt = if values.0.is_on("auth.jwt") { Some(jwt(values)?) } else { None };
    let users_file = values.path("auth.users_file");
    let failures = |key| values.bytes(key).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Some(AuthConfig {
        anonymous: match values.0.get("auth.anonymous") {
            Some(anonymous) => anonymous == Setting::Bool(true),
            None => users_file.is_none() && jwt.is_none(),
        },
        users_file,
        acl: values.text("auth.acl").unwrap_or_default(),
        acl_file: values.path("auth.acl_file"),
        jwt,
        attempts: AttemptLimits {
            user: failures("auth.failures_per_user")?,
            address: failures("auth.failures_per_address")?,
        },
    })
}

fn jwt(values: &Values<'_>) -> Option<JwtConfig> {
    let path = values.path("auth.jwt.key_file")?;
    Some(JwtConfig {
        keys: match values.text("auth.jwt.key_format")?.as_str() {
            "secret" => JwtKeys::Secret(path),
            _ => JwtKeys::Jwks(path),
        },
        issuer: values.text("auth.jwt.issuer")?,
        audience: values.text("auth.jwt.audience")?,
        leeway: values.duration("auth.jwt.leeway")?,
    })
}

fn pipeline(values: &Values<'_>) -> Option<PipelineOptions> {
    let sync = match values.text("log.sync")?.as_str() {
        "interval" => SyncPolicy::Interval(values.duration("log.sync_interval")?),
        _ => SyncPolicy::Always,
    };
    Some(PipelineOptions {
        log: LogOptions {
            sync,
            segment_bytes: values.bytes("log.segment_bytes")?,
            buffer_bytes: values.count("log.buffer_bytes")?,
            free_floor_bytes: values.bytes("log.free_disk_floor")?,
            ..LogOptions::default()
        },
        state: StateLimits {
            devices: values.count("pipeline.device_bytes")?,
            batches: values.count("pipeline.batch_bytes")?,
        },
        tail_bytes: values.count("pipeline.tail_bytes")?,
        lookup_bytes: values.count("pipeline.lookup_bytes")?,
        snapshot_bytes: values.bytes("pipeline.snapshot_bytes")?,
        snapshot_interval: values.duration("pipeline.snapshot_interval")?,
    })
}

fn influx(values: &Values<'_>) -> Option<InfluxConfig> {
    Some(InfluxConfig {
        url: match values.0.get("sink.influx.url")? {
            Setting::Url(url) => url.to_string(),
            _ => return None,
        },
        org: values.text("sink.influx.org")?,
        bucket: values.text("sink.influx.bucket")?,
        token: match values.0.get("sink.influx.token")? {
            Setting::Secret(token) => Token::new(token.reveal()),
            _ => return None,
        },
        batch_points: values.count("sink.influx.batch_points")?,
        batch_bytes: values.count("sink.influx.batch_bytes")?,
        batch_age: values.duration("sink.influx.batch_age")?,
        timeout: values.duration("sink.influx.timeout")?,
        gzip: values.0.get("sink.influx.gzip")? == Setting::Bool(true),
        max_backoff: values.duration("sink.influx.max_backoff")?,
        held_bytes: values.count("sink.influx.held_bytes")?,
        flush_within: values.duration("sink.influx.flush_within")?,
    })
}

/// Faults that no single key has.
fn contradictions(config: &Config, raw: &Raw) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(exposed(config, raw));
    let same_port = config.mqtt_listen == config.http_listen && config.mqtt_listen.port() != 0;
    if same_port {
        faults.push(Fault {
            key: "http.listen".to_owned(),
            origin: raw.origin("http.listen"),
            problem: format!("{} is the address of mqtt.listen too", config.http_listen),
            remedy: "give each a port of its own".to_owned(),
        });
    }
    if let Some(influx) = &config.influx
        && let Err(e) = influx.check()
    {
        let key = format!("sink.influx.{}", e.key);
        faults.push(Fault {
            origin: raw.origin(&key),
            key,
            problem: format!("{:?} {}", e.shown, e.why),
            remedy: "see print-config".to_owned(),
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

/// An address that others can reach, and what guards it.
struct Listener {
    section: &'static str,
    key: &'static str,
    address: SocketAddr,
    tls: bool,
    /// What is wrong with its credentials.
    open: Option<&'static str>,
}

/// Addresses that can be reached from other machines without both credentials and TLS.
fn exposed(config: &Config, raw: &Raw) -> Vec<Fault> {
    let auth = &config.auth;
    let open = if auth.users_file.is_none() && auth.jwt.is_none() {
        Some("there are no credentials to ask for")
    } else if auth.anonymous {
        Some("clients without credentials are let in (auth.anonymous)")
    } else {
        None
    };
    let listeners = [
        Listener {
            section: "mqtt",
            key: "mqtt.listen",
            address: config.mqtt_listen,
            tls: false,
            open,
        },
        // Beyond loopback HTTP asks for credentials always: there is the admin's token at least.
        Listener {
            section: "http",
            key: "http.listen",
            address: config.http_listen,
            tls: false,
            open: None,
        },
    ];
    let taken =
        |section: &str| raw.get(&format!("{section}.allow_insecure")) == Some(Setting::Bool(true));
    let guarded = |it: &Listener| it.address.ip().is_loopback() || it.tls && it.open.is_none();
    let exposed = listeners.iter().filter(|it| !guarded(it) && !taken(it.section));
    exposed.map(|listener| exposure(listener, raw)).collect()
}

fn exposure(listener: &Listener, raw: &Raw) -> Fault {
    let Listener { section, key, address, tls, open } = listener;
    let mut missing = Vec::new();
    let mut remedies = vec!["listen on 127.0.0.1 or [::1]".to_owned()];
    if !tls {
        missing.push("there is no TLS");
        remedies.push(format!("use {section}.tls_listen with a certificate"));
    }
    if let Some(open) = open {
        missing.push(open);
        let remedy = "set auth.users_file (`loushan user add` makes one) or [auth.jwt]";
        remedies.push(format!("{remedy} and leave auth.anonymous off"));
    }
    let allow = variable(&format!("{section}.allow_insecure"));
    let last = format!("or take the risk with allow_insecure = true in [{section}] ({allow})");
    Fault {
        key: (*key).to_owned(),
        origin: raw.origin(key),
        problem: format!(
            "{address} can be reached from other machines, and {}",
            missing.join(" and ")
        ),
        remedy: format!("{}, {last}", remedies.join(", or ")),
    }
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
