//! Alarms, and who is told of them; none of these where `alarms.enabled` is false.

use super::{Label, Metric, Values, counter, gauge};
use crate::alarm::Rule;

const RULE: Label = Label {
    name: "rule",
    values: Values::Of(|| Rule::ALL.iter().map(|rule| rule.as_str()).collect()),
};
// One severity a rule, and made at zero by the alarms themselves.
const SEVERITY: Label =
    Label { name: "severity", values: Values::Named("`critical`, `major`, `minor`") };
const CHANGE: Label =
    Label { name: "change", values: Values::Named("`raised`, `cleared`, `acknowledged`") };
const WEBHOOK: Label =
    Label { name: "webhook", values: Values::Named("the configuration's webhooks") };

const HOOKED: &str = "where there are webhooks";

pub(super) const METRICS: &[Metric] = &[
    gauge("loushan_alarms_open", "alarms", "Alarms that last, by rule and severity.")
        .by(&[RULE, SEVERITY])
        .means("What the city has to be told of, for an alert manager of your own.")
        .alert("sum(loushan_alarms_open{severity=\"critical\"}) > 0"),
    gauge(
        "loushan_alarms_unacknowledged",
        "alarms",
        "Alarms that nobody has acknowledged, whether they last or not.",
    ),
    gauge("loushan_alarms_cleared_kept", "alarms", "Alarms that are over and still known.")
        .bounded("alarms.history_count"),
    counter(
        "loushan_alarm_events_total",
        "events",
        "Alarms raised, cleared and acknowledged, by rule and change.",
    )
    .by(&[RULE, CHANGE]),
    counter(
        "loushan_alarm_late_readings_total",
        "readings",
        "Readings that were no news of their device: they changed no alarm.",
    )
    .means("Backfilled, repeated, or from a clock that is outvoted. They are stored as all are."),
    counter(
        "loushan_alarm_forgotten_total",
        "devices",
        "Devices and stations forgotten because alarms.memory was full.",
    )
    .alert("increase(loushan_alarm_forgotten_total[1h]) > 0"),
    gauge("loushan_alarm_devices", "devices", "Devices that alarms know."),
    gauge("loushan_alarm_stations", "stations", "Stations that alarms know."),
    gauge(
        "loushan_alarm_memory_bytes",
        "bytes",
        "Memory of what alarms know of devices and stations, about.",
    )
    .bounded("alarms.memory"),
    gauge(
        "loushan_alarm_outbox_bytes",
        "bytes",
        "Events on disk that wait for somebody to be told of them.",
    )
    .bounded("alarms.outbox_bytes"),
    gauge("loushan_alarm_webhook_pending_events", "events", "Events a webhook has not had.")
        .by(&[WEBHOOK])
        .only(HOOKED),
    gauge(
        "loushan_alarm_webhook_oldest_seconds",
        "seconds",
        "Age of the oldest event that a webhook has not had.",
    )
    .by(&[WEBHOOK])
    .alert("loushan_alarm_webhook_oldest_seconds > 60")
    .only(HOOKED),
    counter("loushan_alarm_webhook_delivered_total", "events", "Events a webhook has had.")
        .by(&[WEBHOOK])
        .only(HOOKED),
    counter(
        "loushan_alarm_webhook_failures_total",
        "attempts",
        "Attempts to tell a webhook that failed.",
    )
    .by(&[WEBHOOK])
    .only(HOOKED),
    counter(
        "loushan_alarm_webhook_dropped_total",
        "events",
        "Events a webhook will never get: alarms.outbox_bytes was full.",
    )
    .by(&[WEBHOOK])
    .alert("increase(loushan_alarm_webhook_dropped_total[1h]) > 0")
    .only(HOOKED),
];
