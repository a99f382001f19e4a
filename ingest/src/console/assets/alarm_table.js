// Columns of tables of alarms.

import { t, word } from "./i18n.js";
import { SEVERITIES } from "./parts.js";

/** The columns; `station` says whether the station is one of them. */
export function alarmColumns({ station = true } = {}) {
  return [
    {
      name: t("severity"),
      text: (row) => word("severity", row.severity),
      state: (row) => SEVERITIES[row.severity],
    },
    { name: t("alarm"), text: (row) => word("alarm", row.rule) },
    station && {
      name: t("station"),
      text: (row) => row.station,
      href: (row) => `#/stations/${encodeURIComponent(row.station)}`,
    },
    {
      name: t("device"),
      text: (row) => row.imei ?? "",
      href: (row) => (row.imei ? `#/devices/${row.imei}` : null),
    },
    { name: t("raised"), time: (row) => row.raised_ms },
    { name: t("state"), text: (row) => word("alarm_state", row.state) },
  ].filter(Boolean);
}
