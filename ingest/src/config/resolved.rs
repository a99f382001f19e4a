//! The configuration the service runs on: typed, complete, and checked as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::auth::{AttemptLimits, AuthConfig, JwtConfig, JwtKeys};
use loushan_broker::config::{BrokerConfig, DeniedPublish};
use loushan_broker::listen::tls::{ClientCertificates, TlsFiles};
use loushan_schemas::kind::Kind;

use super::alarms;
use super::exposure::{self, Exposed};
use super::fault::{Fault, Faults, Origin};
use super::limits::{self, Limit};
use super::raw::Raw;
use super::table::{FAMILIES, Setting};
use crate::alarm::AlarmConfig;
use crate::http::{HttpLimits, QueryLimits};
use crate::live::LiveLimits;
use crate::pipeline::PipelineOptions;
use crate::pipeline::decide::StateLimits;
use crate::sink::dead_letter::DeadLetterConfig;
use crate::sink::embedded::{CompactionConfig, EmbeddedConfig, KindRetention, RetentionConfig};
use crate::sink::influx::{InfluxConfig, Scheme, Token};
use crate::wal::{LogOptions, SyncPolicy};

/// The whole configuration, in the terms of the components it is for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Where MQTT listens.
    pub mqtt_listen: MqttListen,
    /// The files of MQTT's TLS, where they are set.
    pub mqtt_tls: Option<TlsFiles>,
    /// The broker's bounds.
    pub broker: BrokerConfig,
    /// Who is let in.
    pub auth: AuthConfig,
    /// Where HTTP listens.
    pub http_listen: SocketAddr,
    /// The files of HTTPS, where they are set.
    pub http_tls: Option<TlsFiles>,
    /// HTTP's bounds.
    pub http: HttpLimits,
    /// Addresses that other machines can reach without both credentials and TLS; each is a fault unless
    /// its section has `allow_insecure`.
    pub exposed: Vec<Exposed>,
    /// The pipeline's bounds, the log's among them.
    pub pipeline: PipelineOptions,
    /// What the log keeps though every sink has stored it.
    pub keep: Keep,
    /// The embedded store.
    pub embedded: EmbeddedConfig,
    /// The sinks of the InfluxDB protocol, by name.
    pub sinks: Vec<SinkConfig>,
    /// The dead letter's quotas.
    pub dead_letter: DeadLetterConfig,
    /// What raises alarms, and who is told.
    pub alarms: AlarmConfig,
    /// The stations file, where one is set.
    pub stations_file: Option<PathBuf>,
    /// The file of projects' quotas, where one is set.
    pub projects_file: Option<PathBuf>,
    /// The bounds of the live feed.
    pub live: LiveLimits,
    /// Sizes and counts as they are set, for whoever shows figures beside them.
    pub limits: Vec<Limit>,
    /// How events are written.
    pub tracing: Tracing,
    /// How long an ordered stop may take.
    pub shutdown_deadline: Duration,
}

/// What the log keeps though every sink has stored it, as long as there is room. Neither: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// What is younger.
    pub age: Option<Duration>,
    /// At most so many bytes, the youngest.
    pub bytes: Option<u64>,
}

/// A sink that writes to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// What it is called, in the configuration, in metrics and in the data folder.
    pub name: Arc<str>,
    /// How it writes.
    pub influx: InfluxConfig,
    /// What becomes of what it has not stored when the log has no more room.
    pub on_full: OnFull,
}

/// What becomes of what a sink has not stored when the log has no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// The log keeps it: devices are held back until there is room.
    #[default]
    Hold,
    /// The oldest is let go, counted and said.
    LetGo,
}

/// Where MQTT listens, by what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MqttListen {
    /// Plain TCP.
    pub tcp: Option<SocketAddr>,
    /// TLS.
    pub tls: Option<SocketAddr>,
    /// WebSocket.
    pub ws: Option<SocketAddr>,
    /// WebSocket in TLS.
    pub wss: Option<SocketAddr>,
}

impl MqttListen {
    /// The addresses there are, with their keys and whether TLS is spoken there.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, SocketAddr, bool)> {
        [
            ("mqtt.listen", self.tcp, false),
            ("mqtt.tls_listen", self.tls, true),
            ("mqtt.ws_listen", self.ws, false),
            ("mqtt.wss_listen", self.wss, true),
        ]
        .into_iter()
        .filter_map(|(key, address, tls)| Some((key, address?, tls)))
    }
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
        let mut config = resolve(&raw);
        if let Some(config) = &mut config {
            config.exposed = exposure::exposed(config);
        }
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
    let mqtt_tls = tls_files(&values, "mqtt.tls", &[])?;
    let certificates = mqtt_tls
        .as_ref()
        .is_some_and(|files| files.client_certificates != ClientCertificates::None);
    Some(Config {
        data_dir: values.path("data.dir")?,
        mqtt_listen: MqttListen {
            tcp: values.listen("mqtt.listen"),
            tls: values.listen("mqtt.tls_listen"),
            ws: values.listen("mqtt.ws_listen"),
            wss: values.listen("mqtt.wss_listen"),
        },
        mqtt_tls,
        broker: broker(&values)?,
        auth: auth(&values, certificates)?,
        http_listen: values.address("http.listen")?,
        http_tls: tls_files(&values, "http.tls", &["http/1.1"])?,
        http: HttpLimits {
            exports: values.count("http.max_exports")?,
            connections: values.count("http.max_connections")?,
            query: QueryLimits {
                memory: values.count("query.memory")?,
                timeout: values.duration("query.timeout")?,
            },
        },
        exposed: Vec::new(),
        pipeline: pipeline(&values)?,
        keep: Keep {
            age: values.duration("log.keep_for_replay"),
            bytes: values.bytes("log.keep_for_replay_bytes"),
        },
        embedded: EmbeddedConfig {
            flush_age: values.duration("sink.embedded.flush_age")?,
            flush_rows: values.bytes("sink.embedded.flush_rows")?,
            flush_bytes: values.count("sink.embedded.flush_bytes")?,
            footer_cache_bytes: values.count("sink.embedded.footer_cache_bytes")?,
            compaction: compaction(&values)?,
            retention: retention(&values),
            ..EmbeddedConfig::default()
        },
        sinks: raw
            .members("sink.")
            .iter()
            .map(|name| sink(&values, name))
            .collect::<Option<_>>()?,
        dead_letter: DeadLetterConfig {
            total_bytes: values.bytes("dead_letter.total_bytes")?,
            station_bytes: values.bytes("dead_letter.station_bytes")?,
        },
        alarms: alarms::resolve(&values)?,
        stations_file: values.path("stations.file"),
        projects_file: values.path("stations.projects_file"),
        live: LiveLimits {
            clients: values.count("live.clients")?,
            history: values.count("live.history")?,
            batch_bytes: values.count("live.batch_bytes")?,
            reading_bytes: values.count("live.reading_bytes")?,
        },
        limits: limits::limits(raw),
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
        max_connections_per_address: values.count("mqtt.max_connections_per_address")?,
        handshake_timeout: values.duration("mqtt.handshake_timeout")?,
        max_handshakes: values.count("mqtt.max_handshakes")?,
        ws_origins: values.list("mqtt.ws_origins"),
        connect_timeout: values.duration("mqtt.connect_timeout")?,
        write_timeout: values.duration("mqtt.write_timeout")?,
        drain_timeout: values.duration("mqtt.drain_timeout")?,
        max_packet_bytes: values.count("mqtt.max_packet_bytes")?,
        max_publishes_per_second: u32::try_from(values.bytes("mqtt.max_publishes_per_second")?)
            .unwrap_or(u32::MAX),
        max_bytes_per_second: values.bytes("mqtt.max_bytes_per_second")?,
        total_buffer_bytes: values.count("mqtt.total_buffer_bytes")?,
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
        total_will_bytes: values.count("mqtt.total_will_bytes")?,
        retained_bytes: values.count("mqtt.retained_bytes")?,
        live_feed_bytes: values.count("mqtt.live_feed_bytes")?,
        denied_publish: match values.text("mqtt.denied_publish")?.as_str() {
            "acknowledge" => DeniedPublish::Acknowledge,
            _ => DeniedPublish::Disconnect,
        },
        ..BrokerConfig::default()
    })
}

/// The files of a section, where it is on; `None` inside where one is missing.
#[allow(clippy::option_option)]
fn tls_files(
    values: &Values<'_>,
    section: &'static str,
    alpn: &'static [&'static str],
) -> Option<Option<TlsFiles>> {
    if !values.0.is_on(section) {
        return Some(None);
    }
    let path = |key: &str| values.path(&format!("{section}.{key}"));
    let clients = values.text(&format!("{section}.client_certificates"));
    Some(Some(TlsFiles {
        section,
        certificate: path("certificate")?,
        key: path("key")?,
        client_ca: path("client_ca"),
        client_certificates: match clients.as_deref() {
            Some("required") => ClientCertificates::Required,
            Some("optional") => ClientCertificates::Optional,
            _ => ClientCertificates::None,
        },
        alpn,
    }))
}

/// `certificates`: clients are asked for them.
fn auth(values: &Values<'_>, certificates: bool) -> Option<AuthConfig> {
    let jwt = if values.0.is_on("auth.jwt") { Some(jwt(values)?) } else { None };
    let users_file = values.path("auth.users_file");
    let failures = |key| values.bytes(key).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Some(AuthConfig {
        anonymous: match values.0.get("auth.anonymous") {
            Some(anonymous) => anonymous == Setting::Bool(true),
            None => users_file.is_none() && jwt.is_none() && !certificates,
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
            max_bytes: values.bytes("log.max_bytes"),
            ..LogOptions::default()
        },
        state: StateLimits {
            devices: values.count("pipeline.device_bytes")?,
            batches: values.count("pipeline.batch_bytes")?,
        },
        tail_bytes: values.count("pipeline.tail_bytes")?,
        lookup_bytes: values.count("pipeline.lookup_bytes")?,
        // A snapshot is a cursor: the log's limit must not be reached between two of them.
        snapshot_bytes: values
            .bytes("pipeline.snapshot_bytes")?
            .min(values.bytes("log.max_bytes").map_or(u64::MAX, |max| max / 4)),
        snapshot_interval: values.duration("pipeline.snapshot_interval")?,
    })
}

fn compaction(values: &Values<'_>) -> Option<CompactionConfig> {
    Some(CompactionConfig {
        enabled: values.0.get("store.compaction.enabled")? == Setting::Bool(true),
        min_files: values.count("store.compaction.min_files")?,
        target_bytes: values.bytes("store.compaction.target_bytes")?,
        memory_bytes: values.bytes("store.compaction.memory_bytes")?,
        quiet: values.duration("store.compaction.quiet")?,
        share_percent: u32::try_from(values.bytes("store.compaction.share_percent")?)
            .unwrap_or(100),
    })
}

fn retention(values: &Values<'_>) -> RetentionConfig {
    let of_kind = |kind: Kind| {
        let section = format!("store.retention.{}", kind.as_str());
        let limits = KindRetention {
            age: values.duration(&format!("{section}.age")),
            bytes: values.bytes(&format!("{section}.bytes")),
        };
        (limits != KindRetention::default()).then_some((kind, limits))
    };
    RetentionConfig {
        bytes: values.bytes("store.retention.bytes"),
        kinds: Kind::ALL.into_iter().filter_map(of_kind).collect(),
    }
}

fn sink(values: &Values<'_>, name: &str) -> Option<SinkConfig> {
    let section = format!("sink.{name}");
    Some(SinkConfig {
        name: name.into(),
        influx: influx(values, &section)?,
        on_full: match values.text(&format!("{section}.on_full"))?.as_str() {
            "let_go" => OnFull::LetGo,
            _ => OnFull::Hold,
        },
    })
}

fn influx(values: &Values<'_>, section: &str) -> Option<InfluxConfig> {
    let key = |name: &str| format!("{section}.{name}");
    Some(InfluxConfig {
        url: match values.0.get(&key("url"))? {
            Setting::Url(url) => url.to_string(),
            _ => return None,
        },
        org: values.text(&key("org"))?,
        bucket: values.text(&key("bucket"))?,
        create_bucket: values.0.get(&key("create_bucket"))? == Setting::Bool(true),
        token: match values.0.get(&key("token")) {
            Some(Setting::Secret(token)) => Token::new(token.reveal()),
            _ => Token::default(),
        },
        token_file: values.path(&key("token_file")),
        auth: Scheme::from_word(&values.text(&key("auth"))?)?,
        ca_file: values.path(&key("ca_file")),
        client_certificate: values.path(&key("client_certificate")),
        client_key: values.path(&key("client_key")),
        connections: values.count(&key("connections"))?,
        batch_points: values.count(&key("batch_points"))?,
        batch_bytes: values.count(&key("batch_bytes"))?,
        batch_age: values.duration(&key("batch_age"))?,
        connect_timeout: values.duration(&key("connect_timeout"))?,
        write_timeout: values.duration(&key("write_timeout"))?,
        timeout: values.duration(&key("timeout"))?,
        gzip: values.0.get(&key("gzip"))? == Setting::Bool(true),
        max_backoff: values.duration(&key("max_backoff"))?,
        max_retry_after: values.duration(&key("max_retry_after"))?,
        late_after: values.duration(&key("late_after"))?,
        held_bytes: values.count(&key("held_bytes"))?,
        flush_within: values.duration(&key("flush_within"))?,
    })
}

/// Faults that no single key has.
fn contradictions(config: &Config, raw: &Raw) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(exposure::faults(config, raw));
    faults.extend(super::listeners::faults(config, raw));
    faults.extend(alarms::faults(raw));
    for sink in &config.sinks {
        if let Err(e) = sink.influx.check() {
            let key = format!("sink.{}.{}", sink.name, e.key);
            faults.push(Fault {
                origin: raw.origin(&key),
                key,
                problem: format!("{:?} {}", e.shown, e.why),
                remedy: "see print-config".to_owned(),
            });
        }
    }
    for (prefix, _) in FAMILIES {
        let members = raw.members(prefix);
        for (at, name) in members.iter().enumerate() {
            let variable = |name: &str| super::variable(&format!("{prefix}{name}"));
            let twin = members.iter().take(at).find(|it| variable(it) == variable(name));
            if let Some(twin) = twin {
                faults.push(Fault {
                    key: format!("{prefix}{name}"),
                    origin: Origin::Default,
                    problem: format!("the environment cannot tell it from {prefix}{twin}"),
                    remedy: "give it another name".to_owned(),
                });
            }
        }
    }
    let log = &config.pipeline.log;
    if log.max_bytes.is_some_and(|max| max / 4 < log.segment_bytes) {
        faults.push(Fault {
            key: "log.max_bytes".to_owned(),
            origin: raw.origin("log.max_bytes"),
            problem: "it has no room for four segments of log.segment_bytes".to_owned(),
            remedy: "raise it, or lower log.segment_bytes".to_owned(),
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
pub(super) struct Values<'a>(pub(super) &'a Raw);

impl Values<'_> {
    pub(super) fn text(&self, path: &str) -> Option<String> {
        match self.0.get(path)? {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
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

    /// `None` as well where it is off.
    fn listen(&self, path: &str) -> Option<SocketAddr> {
        match self.0.get(path)? {
            Setting::Listen(address) => address,
            _ => None,
        }
    }

    /// What stands between commas; nothing where the key is not set.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let text = self.text(path).unwrap_or_default();
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    pub(super) fn bytes(&self, path: &str) -> Option<u64> {
        match self.0.get(path)? {
            Setting::Number(n) => Some(n),
            _ => None,
        }
    }

    pub(super) fn count(&self, path: &str) -> Option<usize> {
        self.bytes(path).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub(super) fn duration(&self, path: &str) -> Option<Duration> {
        match self.0.get(path)? {
            Setting::Duration(duration) => Some(duration),
            _ => None,
        }
    }
}
