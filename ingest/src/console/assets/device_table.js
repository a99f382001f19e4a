// Columns of tables of devices.

import { length } from "./format.js";
import { t } from "./i18n.js";
import { QUALITIES } from "./parts.js";

/** The columns; `station` says whether the station is one of them. */
export function deviceColumns(fields, { station = true } = {}) {
  return [
    { name: t("device"), text: (row) => row.imei, href: (row) => `#/devices/${row.imei}` },
    { name: t("kind"), text: (row) => fields.kind(row.kind) },
    station && {
      name: t("station"),
      text: (row) => row.station,
      href: (row) => `#/stations/${encodeURIComponent(row.station)}`,
    },
    station && { name: t("area"), text: (row) => row.area ?? "" },
    { name: t("state"), text: (row) => stateOf(fields, row) },
    {
      name: t("quality"),
      text: (row) => fields.quality(row.quality),
      state: (row) => QUALITIES[row.quality],
    },
    { name: t("age"), n: true, text: (row) => length(row.age_s * 1000) },
  ].filter(Boolean);
}

/** The one word that says most of a device, in our language. */
export function stateOf(fields, { kind, state }) {
  if (state === null || state === undefined) return "";
  const named = { parking: "state", smoke: "state", elevator: "mode", water: "valve" }[kind];
  return named ? fields.value(kind, named, state) : t(`light.${state}`);
}
