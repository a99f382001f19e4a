//! What `[alarms]` and the sections below it come to. Their lists are texts to the table of keys, and are
//! read here.

use std::time::Duration;

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;

use super::fault::{Fault, shorten};
use super::raw::Raw;
use super::resolved::Values;
use super::table::Setting;
use super::units::parse_duration;
use crate::alarm::{
    AlarmConfig, Daily, Maintenance, Rule, Severity, Thresholds, WebhookConfig, When,
};

/// How the names of webhooks' sections begin.
const WEBHOOK: &str = "alarms.webhook.";
/// And those of maintenance windows.
const MAINTENANCE: &str = "alarms.maintenance.";
/// How long a rule may have to hold.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What an item of a list has to be, for people.
struct Item {
    accepted: fn() -> String,
    is_one: fn(&str) -> bool,
}

const RULES: Item = Item { accepted: rules, is_one: |it| Rule::from_text(it).is_some() };
const SEVERITIES: Item = Item {
    accepted: || format!("RULE=critical, major or minor, the rules being {}", Rule::words()),
    is_one: |it| severity(it).is_some(),
};
const DELAYS: Item = Item {
    accepted: || format!("RULE=DURATION of up to a day, the rules being {}", Rule::words()),
    is_one: |it| delay(it).is_some(),
};
const KINDS: Item = Item {
    accepted: || {
        let words = Kind::ALL.iter().filter(|kind| **kind != Kind::StationStatus);
        let words: Vec<&str> = words.map(|kind| kind.as_str()).collect();
        format!("kinds of devices: {}", words.join(", "))
    },
    is_one: |it| Kind::from_text(it).is_some_and(|kind| kind != Kind::StationStatus),
};
const STATIONS: Item = Item {
    accepted: || "names of stations: 1 to 32 of a-z 0-9 -".to_owned(),
    is_one: |it| StationId::new(it).is_ok(),
};
const DEVICES: Item = Item {
    accepted: || "IMEIs: 15 digits, the last one Luhn's".to_owned(),
    is_one: |it| it.parse::<Imei>().is_ok(),
};

fn rules() -> String {
    format!("rules: {}", Rule::words())
}

fn severity(text: &str) -> Option<(Rule, Severity)> {
    let (rule, severity) = text.split_once('=')?;
    Some((Rule::from_text(rule.trim())?, Severity::from_text(severity.trim())?))
}

fn delay(text: &str) -> Option<(Rule, Duration)> {
    let (rule, duration) = text.split_once('=')?;
    let duration = parse_duration(duration).filter(|duration| *duration <= LONGEST)?;
    Some((Rule::from_text(rule.trim())?, duration))
}

fn time_ms(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

/// What of a list is well-formed.
fn each<T>(values: &Values<'_>, key: &str, read: impl FnMut(&String) -> Option<T>) -> Vec<T> {
    values.list(key).iter().filter_map(read).collect()
}

/// The configuration of alarms. `None` only where something required is missing.
pub(super) fn resolve(values: &Values<'_>) -> Option<AlarmConfig> {
    let number = |key: &str| values.bytes(&format!("alarms.{key}")).map(percent);
    let duration = |key: &str| values.duration(&format!("alarms.{key}"));
    let defaults = Thresholds::default();
    let thresholds = Thresholds {
        battery_pct: (number("low_battery_pct")?, number("low_battery_clear_pct")?),
        burst_l_h: (number("burst_l_h")?, number("burst_clear_l_h")?),
        tilt_deg: (number("tilt_deg")?, number("tilt_clear_deg")?),
        entrapment_after: duration("entrapment_after")?,
        silent_factor: number("silent_percent")? / 100.0,
        silent_min: duration("silent_min")?,
        station_silent: duration("station_offline_after")?,
        start_grace: duration("start_grace")?,
        ..defaults
    };
    let members = |prefix: &str| values.0.members(prefix).into_iter();
    let webhooks = members(WEBHOOK).map(|name| webhook(values, &name));
    let maintenance = members(MAINTENANCE).map(|name| maintenance(values, &name));
    let mut config = AlarmConfig {
        enabled: values.0.get("alarms.enabled")? == Setting::Bool(true),
        thresholds,
        kinds: each(values, "alarms.kinds", |it| Kind::from_text(it)),
        projects: values.list("alarms.projects"),
        areas: values.list("alarms.areas"),
        maintenance: maintenance.collect(),
        memory: values.count("alarms.memory")?,
        history_age: duration("history_age")?,
        history_count: values.count("alarms.history_count")?,
        live_events: values.count("alarms.live_events")?,
        outbox_bytes: values.bytes("alarms.outbox_bytes")?,
        webhooks: webhooks.collect::<Option<_>>()?,
        ..AlarmConfig::default()
    };
    let clear_after = duration("clear_after")?;
    for rule in Rule::ALL {
        if let Some(policy) = config.policy_mut(*rule) {
            policy.clear_after = clear_after;
        }
    }
    for rule in each(values, "alarms.off", |it| Rule::from_text(it)) {
        if let Some(policy) = config.policy_mut(rule) {
            policy.on = false;
        }
    }
    for (rule, severity) in each(values, "alarms.severity", |it| severity(it)) {
        if let Some(policy) = config.policy_mut(rule) {
            policy.severity = severity;
        }
    }
    for (rule, after) in each(values, "alarms.raise_after", |it| delay(it)) {
        if let Some(policy) = config.policy_mut(rule) {
            policy.raise_after = after;
        }
    }
    Some(config)
}

#[allow(clippy::cast_precision_loss)] // the table's bounds are far below 2^53
fn percent(n: u64) -> f64 {
    n as f64
}

fn webhook(values: &Values<'_>, name: &str) -> Option<WebhookConfig> {
    let key = |key: &str| format!("{WEBHOOK}{name}.{key}");
    Some(WebhookConfig {
        name: name.into(),
        url: match values.0.get(&key("url"))? {
            Setting::Url(url) => url.to_string(),
            _ => return None,
        },
        secret_file: values.path(&key("secret_file"))?,
        severity: Severity::from_text(&values.text(&key("severity"))?)?,
        ca_file: values.path(&key("ca_file")),
        timeout: values.duration(&key("timeout"))?,
        max_backoff: values.duration(&key("max_backoff"))?,
    })
}

fn maintenance(values: &Values<'_>, name: &str) -> Maintenance {
    let key = |key: &str| format!("{MAINTENANCE}{name}.{key}");
    let time = |name: &str| values.text(&key(name)).and_then(|text| time_ms(&text));
    Maintenance {
        name: name.into(),
        when: When {
            from_ms: time("from").unwrap_or(i64::MIN),
            to_ms: time("to").unwrap_or(i64::MAX),
            daily: values.text(&key("daily")).and_then(|text| Daily::parse(&text)),
        },
        rules: each(values, &key("rules"), |it| Rule::from_text(it)),
        stations: values.list(&key("stations")),
        devices: each(values, &key("devices"), |it| it.parse().ok()),
        projects: values.list(&key("projects")),
        areas: values.list(&key("areas")),
    }
}

/// Faults that the table of keys cannot see.
pub(super) fn faults(raw: &Raw) -> Vec<Fault> {
    let values = Values(raw);
    let mut faults = Vec::new();
    let mut fault = |key: &str, problem: String, remedy: String| {
        faults.push(Fault { key: key.to_owned(), origin: raw.origin(key), problem, remedy });
    };
    let mut lists = vec![
        ("alarms.off".to_owned(), RULES),
        ("alarms.severity".to_owned(), SEVERITIES),
        ("alarms.raise_after".to_owned(), DELAYS),
        ("alarms.kinds".to_owned(), KINDS),
    ];
    let windows = raw.members(MAINTENANCE);
    for name in &windows {
        let key = |key: &str| format!("{MAINTENANCE}{name}.{key}");
        lists.push((key("rules"), RULES));
        lists.push((key("stations"), STATIONS));
        lists.push((key("devices"), DEVICES));
    }
    for (key, item) in lists {
        for bad in values.list(&key).iter().filter(|it| !(item.is_one)(it)) {
            let problem = format!("{} is not accepted", shorten(bad));
            fault(&key, problem, format!("write {}", (item.accepted)()));
        }
    }
    for name in &windows {
        let key = |key: &str| format!("{MAINTENANCE}{name}.{key}");
        let text = |name: &str| values.text(&key(name));
        for name in ["from", "to"] {
            if let Some(bad) = text(name).filter(|text| time_ms(text).is_none()) {
                let remedy = "write a time such as \"2026-03-01T22:00:00+08:00\"";
                fault(&key(name), format!("{} is no time", shorten(&bad)), remedy.to_owned());
            }
        }
        if let Some(bad) = text("daily").filter(|text| Daily::parse(text).is_none()) {
            let remedy = "write a span of the day such as \"02:00-04:30\"";
            fault(&key("daily"), format!("{} is none", shorten(&bad)), remedy.to_owned());
        }
        let times = [text("from"), text("to")].map(|text| text.and_then(|text| time_ms(&text)));
        if let [Some(from), Some(to)] = times
            && from >= to
        {
            let problem = "the window ends before it begins".to_owned();
            fault(&key("to"), problem, "write a time after from".to_owned());
        }
        if ["from", "to", "daily"].into_iter().all(|name| text(name).is_none()) {
            let problem = "nothing says when it is: no alarm would ever be raised".to_owned();
            let remedy = "set from, to or daily; to end rules for good, alarms.off";
            fault(&format!("{MAINTENANCE}{name}"), problem, remedy.to_owned());
        }
    }
    let pairs = [
        ("low_battery_clear_pct", "low_battery_pct", true),
        ("burst_clear_l_h", "burst_l_h", false),
        ("tilt_clear_deg", "tilt_deg", false),
    ];
    for (clear, set, above) in pairs {
        let value = |name: &str| values.bytes(&format!("alarms.{name}")).unwrap_or(0);
        let (at, of) = (value(clear), value(set));
        if (above && at < of) || (!above && at > of) {
            let word = if above { "below" } else { "above" };
            let problem =
                format!("{at} is {word} alarms.{set} = {of}: it would be set and cleared at once");
            let remedy = format!("write {of}, or a number that is not {word} it");
            fault(&format!("alarms.{clear}"), problem, remedy);
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn rules_windows_and_webhooks_are_read_from_file_and_environment() {
        let file = "[alarms]\noff = \"covered, tamper\"\nseverity = \"lamp_tilt=major\"\n\
                    raise_after = \"water_leak=10m\"\nkinds = \"smoke\"\nsilent_percent = 300\n\
                    [alarms.webhook.fire-brigade]\nurl = \"https://h/x\"\nsecret_file = \"s\"\n\
                    severity = \"critical\"\n\
                    [alarms.maintenance.lift]\nfrom = \"2026-03-01T00:00:00Z\"\n\
                    devices = \"867770000000018\"\n";
        let variable = "LOUSHAN__ALARMS__WEBHOOK__FIRE_BRIGADE__TIMEOUT".to_owned();
        let config = Config::read(Some(file), [(variable, "3s".to_owned())]).unwrap().alarms;
        assert!(!config.policy(Rule::Covered).on && config.policy(Rule::Smoke).on);
        assert_eq!(config.policy(Rule::LampTilt).severity, Severity::Major);
        assert_eq!(config.policy(Rule::WaterLeak).raise_after, Duration::from_secs(600));
        assert_eq!(config.policy(Rule::WaterLeak).clear_after, Duration::from_secs(30));
        assert_eq!(config.kinds, [Kind::Smoke]);
        assert!((config.thresholds.silent_factor - 3.0).abs() < f64::EPSILON);
        let hook = &config.webhooks[0];
        assert_eq!((&*hook.name, hook.timeout), ("fire-brigade", Duration::from_secs(3)));
        assert_eq!(hook.severity, Severity::Critical);
        let window = &config.maintenance[0];
        assert_eq!(window.when.from_ms, 1_772_323_200_000);
        assert_eq!((window.when.to_ms, window.devices.len()), (i64::MAX, 1));
    }

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        assert_eq!(Config::read(None, []).unwrap().alarms, AlarmConfig::default());
    }

    #[test]
    fn what_a_list_has_that_is_none_of_it_is_named_with_the_remedy() {
        let file = "[alarms]\noff = \"smoke, fire\"\nseverity = \"smoke=bad\"\n\
                    raise_after = \"smoke=1w\"\nkinds = \"station_status\"\ntilt_clear_deg = 20\n\
                    low_battery_clear_pct = 5\n\
                    [alarms.webhook.x]\nurl = \"https://h/\"\nsecret_file = \"/s\"\n\
                    [alarms.maintenance.a]\nrules = \"smoke\"\n\
                    [alarms.maintenance.b]\nfrom = \"2026-03-02T00:00:00Z\"\n\
                    to = \"2026-03-01T00:00:00Z\"\ndaily = \"25:00-26:00\"\ndevices = \"123\"\n";
        let faults = Config::read(Some(file), []).unwrap_err().0;
        let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
        for start in [
            "line 2: alarms.off: \"fire\" is not accepted; write rules: smoke,",
            "line 3: alarms.severity: \"smoke=bad\" is not accepted; write RULE=critical,",
            "line 4: alarms.raise_after: \"smoke=1w\" is not accepted; write RULE=DURATION",
            "line 5: alarms.kinds: \"station_status\" is not accepted; write kinds of devices",
            "line 6: alarms.tilt_clear_deg: 20 is above alarms.tilt_deg = 15",
            "line 7: alarms.low_battery_clear_pct: 5 is below alarms.low_battery_pct = 10",
            "line 15: alarms.maintenance.b.to: the window ends before it begins",
            "line 16: alarms.maintenance.b.daily: \"25:00-26:00\" is none",
            "line 17: alarms.maintenance.b.devices: \"123\" is not accepted; write IMEIs",
        ] {
            assert!(shown.iter().any(|line| line.starts_with(start)), "{start}\n{shown:#?}");
        }
        let part = "alarms.maintenance.a: nothing says";
        assert!(shown.iter().any(|line| line.contains(part)), "{shown:#?}");
        let file = "[alarms.webhook.x]\nurl = \"https://h/\"\n";
        let faults = Config::read(Some(file), []).unwrap_err().to_string();
        assert!(faults.contains("alarms.webhook.x.secret_file: must be set"), "{faults}");
    }
}
