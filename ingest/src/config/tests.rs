#![allow(clippy::unwrap_used)]

use std::time::Duration;

use loushan_broker::auth::JwtKeys;
use loushan_broker::config::BrokerConfig;

use super::keys::SECTIONS;
use super::raw::all_keys;
use super::table::Default;
use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::*;
use crate::pipeline::PipelineOptions;
use crate::sink::dead_letter::DeadLetterConfig;
use crate::sink::embedded::EmbeddedConfig;
use crate::sink::influx::{InfluxConfig, Scheme, Token};
use crate::wal::SyncPolicy;

fn faults(text: &str) -> Vec<Fault> {
    Config::read(Some(text), []).unwrap_err().0
}

fn environment(name: &str, value: &str) -> [(String, String); 1] {
    [(name.to_owned(), value.to_owned())]
}

#[test]
fn the_printed_file_means_the_defaults() {
    let defaults = Config::read(None, []).unwrap();
    let printed = Config::read(Some(&default_file()), []).unwrap();
    assert_eq!(format!("{printed:?}"), format!("{defaults:?}"));
    assert_eq!(defaults.mqtt_listen.tcp.unwrap().to_string(), "127.0.0.1:1883");
    assert_eq!(defaults.http_listen.to_string(), "127.0.0.1:8080");
    assert_eq!(defaults.pipeline.log.sync, SyncPolicy::Always);
    assert_eq!(defaults.sinks, []);
}

#[test]
fn the_defaults_are_those_of_the_components() {
    let config = Config::read(None, []).unwrap();
    assert_eq!(config.broker, BrokerConfig::default());
    assert_eq!(config.embedded, EmbeddedConfig::default());
    assert_eq!(config.dead_letter, DeadLetterConfig::default());
    assert_eq!(format!("{:?}", config.pipeline), format!("{:?}", PipelineOptions::default()));
    let text = "[sink.influx]\nurl = \"http://h:1\"\norg = \"o\"\nbucket = \"b\"\ntoken = \"t\"\n";
    let sinks = Config::read(Some(text), []).unwrap().sinks;
    let default = InfluxConfig {
        url: "http://h:1/".to_owned(),
        org: "o".to_owned(),
        bucket: "b".to_owned(),
        token: Token::new("t"),
        ..InfluxConfig::default()
    };
    let default = SinkConfig { name: "influx".into(), influx: default, on_full: OnFull::default() };
    assert_eq!(sinks, [default]);
}

#[test]
fn the_printed_file_with_every_key_set_is_accepted_too() {
    let text: String = default_file()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = Config::read(Some(&text), []).unwrap();
    assert_eq!(config.sinks[0].influx.bucket, "loushan");
    assert_eq!(config.stations_file.unwrap().to_str(), Some("stations.csv"));
}

#[test]
fn every_default_and_example_is_a_value_of_its_key() {
    for (path, key) in all_keys() {
        let (Default::Is(text) | Default::Unset(text) | Default::Required(text)) = key.default;
        assert!(key.kind.parse(text).is_some(), "{path} = {text}");
    }
}

#[test]
fn no_key_or_section_is_named_twice() {
    let mut paths: Vec<String> = all_keys().map(|(path, _)| path).collect();
    paths.extend(SECTIONS.iter().map(|section| section.name.to_owned()));
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all);
}

#[test]
fn all_faults_are_reported_at_once_with_line_key_value_and_remedy() {
    let found = faults(
        "[mqtt]\nlisten = \"nowhere\"\n[log]\nsync = \"sometimes\"\nsegment_bytes = 5\ncolour = 1\n\
         [shutdown]\ndeadline = \"30\"\n[lift]\nfloor = 3\n[http]\nmax_exports = [1]\n",
    );
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    let starts = [
        "line 12: http.max_exports: the value is of the wrong type (array); write a whole number",
        "line 9: lift: there is no such key or section; sections are data, mqtt,",
        "line 6: log.colour: there is no such key or section; keys of [log] are sync, sync_interval,",
        "line 5: log.segment_bytes: \"5\" is not accepted; write a size in B, KiB, MiB or GiB",
        "line 4: log.sync: \"sometimes\" is not accepted; write \"always\" or \"interval\"",
        "line 2: mqtt.listen: \"nowhere\" is not accepted; write an IP address and port",
        "line 8: shutdown.deadline: \"30\" is not accepted; write a duration with its unit",
    ];
    assert_eq!(shown.len(), starts.len(), "{shown:#?}");
    for start in starts {
        assert!(shown.iter().any(|line| line.starts_with(start)), "{start}\n{shown:#?}");
    }
}

#[test]
fn faults_come_in_the_order_of_the_file() {
    let lines: Vec<Origin> = faults("[shutdown]\ndeadline = 1\n[data]\ndir = \"\"\n[a]\nb = 1\n")
        .into_iter()
        .map(|f| f.origin)
        .collect();
    assert_eq!(lines, [Origin::Line(2), Origin::Line(4), Origin::Line(5)]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = Config::read(
        Some("[log]\nsync = \"always\"\n"),
        environment("LOUSHAN__LOG__SYNC", "interval"),
    )
    .unwrap();
    assert_eq!(config.pipeline.log.sync, SyncPolicy::Interval(Duration::from_millis(50)));
}

#[test]
fn an_unknown_variable_of_ours_is_refused_and_others_are_left_alone() {
    assert!(Config::read(None, environment("LOUSHANX", "1")).is_ok());
    let found = Config::read(None, environment("LOUSHAN__LOG__SINK", "1")).unwrap_err().0;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, "log.sink");
    assert_eq!(found[0].origin, Origin::Environment("LOUSHAN__LOG__SINK".to_owned()));
}

#[test]
fn an_influx_section_that_is_begun_must_be_finished() {
    let keys: Vec<String> = faults("[sink.influx]\nurl = \"http://127.0.0.1:8086\"\n")
        .into_iter()
        .map(|f| f.key)
        .collect();
    assert_eq!(keys, ["sink.influx.org", "sink.influx.bucket"]);
    let keys = Config::read(None, environment("LOUSHAN__SINK__INFLUX__TOKEN", "t")).unwrap_err().0;
    assert_eq!(keys.len(), 3);
    let text = "[sink.lake]\nurl = \"https://h/base\"\norg = \"o\"\nbucket = \"b\"\n";
    let keys: Vec<String> = faults(text).into_iter().map(|f| f.key).collect();
    assert_eq!(keys, ["sink.lake.token"]);
    for rest in ["token_file = \"/run/token\"\n", "auth = \"none\"\n"] {
        Config::read(Some(&format!("{text}{rest}")), []).unwrap();
    }
}

#[test]
fn a_token_is_text_and_never_shown() {
    let text = "[sink.influx]\nurl = \"http://127.0.0.1:8086\"\norg = \"o\"\nbucket = \"b\"\n";
    let config =
        Config::read(Some(text), environment("LOUSHAN__SINK__INFLUX__TOKEN", "007")).unwrap();
    let influx = &config.sinks[0].influx;
    assert_eq!(influx.token, Token::new("007"));
    assert!(!format!("{config:?}").contains("007"));

    let broken = format!("{text}token = hunter2\"\n");
    let shown = Config::read(Some(&broken), []).unwrap_err().to_string();
    assert!(shown.contains("line 5") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_url_with_a_password_in_it_is_refused_and_not_shown() {
    let shown = Faults(faults("[sink.influx]\nurl = \"http://a:hunter2@b\"\n")).to_string();
    assert!(shown.contains("sink.influx.url") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_listener_beyond_loopback_is_refused_unless_the_risk_is_taken() {
    for section in ["mqtt", "http"] {
        let open = format!("[{section}]\nlisten = \"0.0.0.0:9000\"\n");
        let found = faults(&open);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key, format!("{section}.listen"));
        assert_eq!(found[0].origin, Origin::Line(2));
        assert!(found[0].remedy.contains("allow_insecure = true"));
        assert!(Config::read(Some(&format!("{open}allow_insecure = true\n")), []).is_ok());
    }
    assert!(Config::read(Some("[http]\nlisten = \"[::1]:9000\"\n"), []).is_ok());
}

#[test]
fn what_is_missing_beyond_loopback_is_said_with_its_remedy() {
    let found = faults("[mqtt]\nlisten = \"0.0.0.0:1883\"\n");
    assert!(found[0].problem.contains("no TLS and there are no credentials"), "{found:?}");
    assert!(found[0].remedy.contains("mqtt.tls_listen"), "{found:?}");
    assert!(found[0].remedy.contains("loushan user add"), "{found:?}");
    let users = "[auth]\nusers_file = \"users\"\n";
    let found = faults(&format!("[mqtt]\nlisten = \"0.0.0.0:1883\"\n{users}"));
    assert!(found[0].problem.ends_with("and there is no TLS"), "{found:?}");
    let found = faults(&format!("[mqtt]\nlisten = \"0.0.0.0:1883\"\n{users}anonymous = true\n"));
    assert!(found[0].problem.contains("auth.anonymous"), "{found:?}");
}

#[test]
fn beyond_loopback_mqtt_needs_credentials_and_tls_and_http_needs_tls() {
    let tls = "certificate = \"c\"\nkey = \"k\"\n";
    let mqtt = |auth: &str, clients: &str| {
        let listen = "[mqtt]\nlisten = \"off\"\ntls_listen = \"0.0.0.0:8883\"\n";
        Config::read(Some(&format!("{listen}[mqtt.tls]\n{tls}{clients}{auth}")), [])
    };
    let users = "[auth]\nusers_file = \"users\"\n";
    let optional = "client_ca = \"ca\"\nclient_certificates = \"optional\"\n";
    assert_eq!(mqtt("", "").unwrap_err().0[0].key, "mqtt.tls_listen");
    assert!(mqtt(users, "").unwrap().exposed.is_empty());
    assert!(mqtt(&format!("{users}anonymous = true\n"), "").is_err());
    let certified = mqtt("", optional).unwrap();
    assert!(certified.exposed.is_empty() && !certified.auth.anonymous);
    assert!(mqtt("[auth]\nanonymous = true\n", optional).is_err());

    let http = "[http]\nlisten = \"0.0.0.0:8443\"\n";
    let found = faults(http);
    assert!(found[0].remedy.contains("[http.tls]"), "{found:?}");
    assert!(Config::read(Some(&format!("{http}[http.tls]\n{tls}")), []).is_ok());
    let taken = Config::read(Some(&format!("{http}allow_insecure = true\n")), []).unwrap();
    assert!(taken.exposed[0].problem().contains("no TLS"), "{:?}", taken.exposed);
}

#[test]
fn anonymous_clients_are_let_in_as_long_as_there_is_nothing_to_ask_for() {
    let anonymous = |text: &str| Config::read(Some(text), []).unwrap().auth.anonymous;
    assert!(anonymous(""));
    assert!(!anonymous("[auth]\nusers_file = \"users\"\n"));
    assert!(!anonymous("[auth]\nanonymous = false\n"));
    assert!(anonymous("[auth]\nusers_file = \"users\"\nanonymous = true\n"));
    let jwt = "[auth.jwt]\nkey_file = \"k\"\nissuer = \"i\"\naudience = \"a\"\n";
    assert!(!anonymous(jwt));
    let auth = Config::read(Some(&format!("{jwt}key_format = \"secret\"\n")), []).unwrap().auth;
    assert_eq!(auth.jwt.unwrap().keys, JwtKeys::Secret("k".into()));
    let keys: Vec<String> = faults("[auth.jwt]\n").into_iter().map(|fault| fault.key).collect();
    assert_eq!(keys, ["auth.jwt.key_file", "auth.jwt.issuer", "auth.jwt.audience"]);
}

#[test]
fn two_listeners_cannot_have_one_port_but_may_both_take_any() {
    assert_eq!(faults("[http]\nlisten = \"127.0.0.1:1883\"\n")[0].key, "http.listen");
    let any = "[http]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\n";
    assert!(Config::read(Some(any), []).is_ok());
}

#[test]
fn text_that_is_not_toml_is_reported_with_its_line() {
    let found = faults("[log]\nsync = \"always\"\nsegment_bytes\n");
    assert_eq!(found[0].origin, Origin::Line(3), "{found:?}");
}

#[test]
fn sizes_and_durations_read_back_as_they_are_shown() {
    for bytes in [0, 1, 1023, 1024, 1 << 20, (1 << 30) + 1, 5 << 40] {
        assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
    }
    assert_eq!(parse_size("64 MiB"), Some(64 << 20));
    for bad in ["", "64", "64MB", "MiB", "-1B", "1.5GiB", "99999999999GiB"] {
        assert_eq!(parse_size(bad), None, "{bad}");
    }
    for ms in [1, 50, 1_500, 60_000, 5_400_000] {
        let duration = Duration::from_millis(ms);
        assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
    }
    assert_eq!(parse_duration("30"), None);
}

#[test]
fn listeners_of_tls_need_its_files_and_each_listener_an_address_of_its_own() {
    let keys = |text: &str| faults(text).into_iter().map(|f| f.key).collect::<Vec<_>>();
    let listen = "[mqtt]\ntls_listen = \"127.0.0.1:8883\"\nwss_listen = \"127.0.0.1:8883\"\n";
    assert_eq!(keys(listen), ["mqtt.tls_listen", "mqtt.wss_listen", "mqtt.wss_listen"]);
    let files = "[mqtt.tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    let listen = "[mqtt]\nlisten = \"off\"\ntls_listen = \"127.0.0.1:8883\"\n";
    let config = Config::read(Some(&format!("{listen}{files}")), []).unwrap();
    assert_eq!(config.mqtt_listen.tcp, None);
    assert_eq!(config.mqtt_listen.tls, "127.0.0.1:8883".parse().ok());
    assert_eq!(config.mqtt_tls.unwrap().section, "mqtt.tls");
    assert_eq!(keys("[mqtt]\nlisten = \"off\"\n"), ["mqtt.listen"]);
    assert_eq!(keys("[mqtt.tls]\nkey = \"k\"\n"), ["mqtt.tls.certificate"]);
    let ca = format!("{files}client_ca = \"ca\"\n");
    assert_eq!(keys(&ca), ["mqtt.tls.client_ca"]);
    assert_eq!(
        keys(&format!("{files}client_certificates = \"required\"\n")),
        ["mqtt.tls.client_certificates"]
    );
    assert!(Config::read(Some(&format!("{ca}client_certificates = \"optional\"\n")), []).is_ok());
}

#[test]
fn origins_stand_between_commas() {
    let text = "[mqtt]\nws_origins = \"https://a.example, https://b.example\"\n";
    let config = Config::read(Some(text), []).unwrap();
    assert_eq!(config.broker.ws_origins, ["https://a.example", "https://b.example"]);
}

#[test]
fn there_may_be_any_number_of_sinks_each_with_its_name() {
    let section = |name: &str| {
        format!(
            "[sink.{name}]\nurl = \"http://h:1\"\norg = \"o\"\nbucket = \"{name}\"\ntoken = \"t\"\n"
        )
    };
    let text = format!("{}{}on_full = \"let_go\"\n", section("influx"), section("city-lake"));
    let config = Config::read(Some(&text), []).unwrap();
    let names: Vec<&str> = config.sinks.iter().map(|sink| &*sink.name).collect();
    assert_eq!(names, ["city-lake", "influx"]);
    let on_full: Vec<OnFull> = config.sinks.iter().map(|sink| sink.on_full).collect();
    assert_eq!(on_full, [OnFull::LetGo, OnFull::Hold]);
    assert_eq!(config.sinks[0].influx.bucket, "city-lake");

    // By the environment alone, and over the file where a name has what no variable can have.
    let set = |name: &str, key: &str, value: &str| {
        (format!("LOUSHAN__SINK__{name}__{key}"), value.to_owned())
    };
    let environment = [
        set("LAKE_2", "URL", "http://h:2"),
        set("LAKE_2", "ORG", "o"),
        set("LAKE_2", "BUCKET", "b"),
        set("LAKE_2", "TOKEN", "s3cr3t"),
        set("CITY_LAKE", "TOKEN", "s3cr3t"),
    ];
    let config = Config::read(Some(&text), environment).unwrap();
    let names: Vec<&str> = config.sinks.iter().map(|sink| &*sink.name).collect();
    assert_eq!(names, ["city-lake", "influx", "lake_2"]);
    assert_eq!(config.sinks[0].influx.token, Token::new("s3cr3t"));
    assert!(!format!("{config:?}").contains("s3cr3t"));
}

#[test]
fn a_sink_is_named_as_a_metric_and_a_folder_can_be() {
    let named = |name: &str| {
        let section = format!("[sink.{name}]\nurl = \"http://h:1\"\norg = \"o\"\n");
        Config::read(Some(&format!("{section}bucket = \"b\"\ntoken = \"t\"\n")), [])
    };
    for good in ["a", "lake-2", "lake_2", "a234567890123456789012345678901b"] {
        assert!(named(good).is_ok(), "{good}");
    }
    for bad in ["Lake", "2lake", "snapshot", "dead_letter", "a2345678901234567890123456789012b"] {
        let fault = &named(bad).unwrap_err().0[0];
        assert!(fault.remedy.starts_with("a sink's name is"), "{bad}: {fault}");
    }
    let twins = "[sink.a-b]\nurl = \"http://h:1\"\norg = \"o\"\nbucket = \"b\"\ntoken = \"t\"\n";
    let both = format!("{twins}{}", twins.replace("a-b", "a_b"));
    let found = faults(&both);
    assert!(found.iter().any(|f| f.key == "sink.a_b"), "{found:?}");
}

#[test]
fn every_key_of_a_sink_reaches_it() {
    let text = "[sink.lake]\nurl = \"https://h/base\"\norg = \"o\"\nbucket = \"b\"\ncreate_bucket = false\n\
                token = \"t\"\ntoken_file = \"/t\"\nauth = \"bearer\"\nca_file = \"/ca\"\n\
                client_certificate = \"/cc\"\nclient_key = \"/ck\"\nconnections = 3\nbatch_points = 4\n\
                batch_bytes = \"5KiB\"\nbatch_age = \"6s\"\ntimeout = \"7s\"\nconnect_timeout = \"8s\"\n\
                write_timeout = \"9s\"\ngzip = false\nmax_backoff = \"10s\"\nmax_retry_after = \"11s\"\n\
                late_after = \"12s\"\nheld_bytes = \"13MiB\"\nflush_within = \"14s\"\n";
    let config = Config::read(Some(text), []).unwrap();
    let seconds = Duration::from_secs;
    let expected = InfluxConfig {
        url: "https://h/base".to_owned(),
        org: "o".to_owned(),
        bucket: "b".to_owned(),
        create_bucket: false,
        token: Token::new("t"),
        token_file: Some("/t".into()),
        auth: Scheme::Bearer,
        ca_file: Some("/ca".into()),
        client_certificate: Some("/cc".into()),
        client_key: Some("/ck".into()),
        connections: 3,
        batch_points: 4,
        batch_bytes: 5 << 10,
        batch_age: seconds(6),
        timeout: seconds(7),
        connect_timeout: seconds(8),
        write_timeout: seconds(9),
        gzip: false,
        max_backoff: seconds(10),
        max_retry_after: seconds(11),
        late_after: seconds(12),
        held_bytes: 13 << 20,
        flush_within: seconds(14),
    };
    assert_eq!(config.sinks[0].influx, expected);
}
