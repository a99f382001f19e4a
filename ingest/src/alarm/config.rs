//! What raises alarms, for whom, when not, and how much of it all is kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loushan_schemas::kind::Kind;

use super::maintenance::Maintenance;
use super::rule::{Rule, Severity};

/// The whole section `[alarms]` and what is below it.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmConfig {
    /// Whether there are alarms at all.
    pub enabled: bool,
    /// What applies to each rule, by [`Rule::number`] less one.
    pub policies: Vec<Policy>,
    /// Limits of values.
    pub thresholds: Thresholds,
    /// Only devices of these kinds; empty: all.
    pub kinds: Vec<Kind>,
    /// Only stations of these projects; empty: all.
    pub projects: Vec<String>,
    /// Only stations in these parts of the city; empty: all.
    pub areas: Vec<String>,
    /// When nothing is raised.
    pub maintenance: Vec<Maintenance>,
    /// Bytes that are kept of devices and stations, their open alarms among them.
    pub memory: usize,
    /// How long an alarm that is over is kept.
    pub history_age: Duration,
    /// How many of them are kept.
    pub history_count: usize,
    /// Events that a slow reader of the live feed may be behind.
    pub live_events: usize,
    /// Bytes of events that wait for webhooks.
    pub outbox_bytes: u64,
    /// Who is told by HTTP.
    pub webhooks: Vec<WebhookConfig>,
}

/// What applies to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether it raises anything.
    pub on: bool,
    /// How bad it is.
    pub severity: Severity,
    /// How long it has to last before an alarm is raised.
    pub raise_after: Duration,
    /// How long it has to be over before the alarm is cleared.
    pub clear_after: Duration,
}

/// Limits of values. Between *set* and *clear* nothing changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Charge below which a battery is low, and from which it is well again; in percent.
    pub battery_pct: (f64, f64),
    /// Flow above which a pipe has burst, and up to which it is well again; in litres an hour.
    pub burst_l_h: (f64, f64),
    /// Tilt above which a post leans, and up to which it stands; in degrees.
    pub tilt_deg: (f64, f64),
    /// Power below which a lamp that is to be lit is dark, and from which it is lit; in watts.
    pub lamp_dark_w: (f64, f64),
    /// Power above which a lamp that is to be dark burns, and up to which it is dark; in watts.
    pub day_burner_w: (f64, f64),
    /// How long a lift may stand between landings with somebody inside.
    pub entrapment_after: Duration,
    /// How many of its longest pauses a device may be silent.
    pub silent_factor: f64,
    /// The shortest silence that is one, whatever the rhythm.
    pub silent_min: Duration,
    /// How long a station may be silent at least.
    pub station_silent: Duration,
    /// How long after a start nobody's silence counts.
    pub start_grace: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            battery_pct: (10.0, 15.0),
            // Q4 and Q3 of a meter of Q3 = 2.5 m³/h.
            burst_l_h: (3125.0, 2500.0),
            tilt_deg: (15.0, 12.0),
            lamp_dark_w: (1.0, 2.0),
            day_burner_w: (5.0, 3.0),
            entrapment_after: Duration::from_secs(120),
            silent_factor: 2.5,
            silent_min: Duration::from_secs(180),
            station_silent: Duration::from_secs(180),
            start_grace: Duration::from_secs(120),
        }
    }
}

/// Who is told by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// What it is called in configuration and metrics.
    pub name: Arc<str>,
    /// Where to.
    pub url: String,
    /// The file with the secret that requests are signed with.
    pub secret_file: PathBuf,
    /// The least severity it is told of.
    pub severity: Severity,
    /// Whom to believe that it is the receiver, instead of the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// How long the receiver may take.
    pub timeout: Duration,
    /// The longest pause between two attempts.
    pub max_backoff: Duration,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        let policy = |rule: &Rule| Policy {
            on: true,
            severity: rule.severity(),
            raise_after: Duration::ZERO,
            clear_after: Duration::from_secs(30),
        };
        Self {
            enabled: true,
            policies: Rule::ALL.iter().map(policy).collect(),
            thresholds: Thresholds::default(),
            kinds: Vec::new(),
            projects: Vec::new(),
            areas: Vec::new(),
            maintenance: Vec::new(),
            memory: 128 << 20,
            history_age: Duration::from_secs(90 * 24 * 3600),
            history_count: 20_000,
            live_events: 1024,
            outbox_bytes: 16 << 20,
            webhooks: Vec::new(),
        }
    }
}

impl AlarmConfig {
    /// What applies to a rule.
    #[must_use]
    pub fn policy(&self, rule: Rule) -> Policy {
        // There is one for each rule.
        let at = usize::from(rule.number()) - 1;
        self.policies.get(at).copied().unwrap_or(Policy {
            on: false,
            severity: rule.severity(),
            raise_after: Duration::ZERO,
            clear_after: Duration::ZERO,
        })
    }

    /// Changes what applies to a rule.
    pub fn policy_mut(&mut self, rule: Rule) -> Option<&mut Policy> {
        self.policies.get_mut(usize::from(rule.number()) - 1)
    }

    /// Whether a rule applies to a device of that kind (or to a station, `None`) at a place.
    #[must_use]
    pub fn applies(&self, rule: Rule, kind: Option<Kind>, site: Option<&Place>) -> bool {
        let listed = |list: &[String], of: fn(&Place) -> &str| {
            list.is_empty() || site.is_some_and(|site| list.iter().any(|it| *it == of(site)))
        };
        self.policy(rule).on
            && (self.kinds.is_empty() || kind.is_none_or(|kind| self.kinds.contains(&kind)))
            && listed(&self.projects, |site| &site.project)
            && listed(&self.areas, |site| &site.area)
    }
}

/// What the registry says of a station, as far as alarms need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its pilot project.
    pub project: Arc<str>,
    /// Its part of the city.
    pub area: Arc<str>,
}
