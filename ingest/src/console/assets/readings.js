// Readings and batches, as the service decoded them.

import { h } from "./dom.js";
import { bytes, dateTime, number, time } from "./format.js";
import { t } from "./i18n.js";
import { badge, QUALITIES, scroll } from "./parts.js";

/** What a row says of itself rather than of its device's world. */
const OWN = new Set([
  "lsn",
  "kind",
  "region",
  "station",
  "session",
  "batch_seq",
  "replay",
  "imei",
  "boot_epoch",
  "seq",
  "measured_ms",
  "heard_ms",
  "received_us",
  "effective_ms",
  "time_source",
  "quality",
  "reason",
]);

/** A quality as a badge, with its reason. */
export function qualityBadge(fields, quality, reason) {
  const words = fields.quality(quality) + (reason ? `: ${fields.reason(reason)}` : "");
  return badge(QUALITIES[quality], words);
}

/** The values of a row, in words: the fields of its kind in the table's order. */
export function said(fields, row) {
  const present = fields
    .of(row.kind)
    .filter(({ field, common }) => !common && field in row && !OWN.has(field));
  return present
    .map(({ field }) => `${fields.label(row.kind, field)} ${fields.value(row.kind, field, row[field])}`)
    .join(" · ");
}

/** A batch as it was received: what it is, its bytes, and what was read in it. */
export function batch(
  fields,
  {
    lsn,
    received_ms: received,
    topic,
    bytes: size,
    payload_hex: hex,
    cut,
    readings,
    accepted,
    duplicate,
    rejects,
  },
) {
  const counts = t("batch.counts", {
    accepted: number(accepted),
    duplicate: number(duplicate),
    rejected: number(rejects.length),
  });
  const rows = readings.map((row) =>
    h(
      "tr",
      null,
      h("td", null, row.imei ? h("a", { href: `#/devices/${row.imei}` }, row.imei) : row.station),
      h("td", null, fields.kind(row.kind)),
      h("td", null, time(row.effective_ms)),
      h("td", null, qualityBadge(fields, row.quality, row.reason)),
      h("td", null, said(fields, row)),
    ),
  );
  const names = ["device", "kind", "time", "quality", "values"];
  return h(
    "details",
    { "data-lsn": lsn },
    h("summary", null, `${dateTime(received)} · ${counts} · ${bytes(size)}`),
    h("p", { class: "muted" }, `lsn ${lsn} · `, h("code", null, topic)),
    rejects.length === 0
      ? null
      : h(
          "ul",
          null,
          rejects.map((one) => h("li", null, rejected(fields, one))),
        ),
    rows.length === 0
      ? null
      : scroll(
          t("batch.readings"),
          h(
            "table",
            null,
            h(
              "thead",
              null,
              h(
                "tr",
                null,
                names.map((name) => h("th", { scope: "col" }, t(name))),
              ),
            ),
            h("tbody", null, rows),
          ),
        ),
    hexdump(hex, cut),
  );
}

/** Bytes as they came. */
export function hexdump(hex, cut = false) {
  const pairs = (hex ?? "").replace(/(..)(?=.)/g, "$1 ");
  return h("pre", { class: "mono" }, pairs + (cut ? " …" : ""));
}

function rejected(fields, { reason, reading }) {
  const what = fields.reject(reason);
  return reading === null || reading === undefined ? what : t("batch.reject", { reading, what });
}
