// A station: how it is, what it carries, what it sent last.

import { get } from "../api.js";
import { attribute, h, list, replace, text } from "../dom.js";
import { fields as askFields } from "../fields.js";
import { ago, bytes, length, number, time } from "../format.js";
import { t, word } from "../i18n.js";
import { live } from "../live.js";
import { badge, card, facts, scroll, stationBadge, Table, Tile } from "../parts.js";
import { batch } from "../readings.js";
import { alarmColumns } from "../alarm_table.js";
import { deviceColumns } from "../device_table.js";

/** Milliseconds between two looks. */
const AGAIN = 3000;
/** Devices and alarms that are shown here; the rest is behind a link. */
const FEW = 15;

export const title = (name) => name;

export async function show(page) {
  const name = page.argument;
  const fields = await askFields();
  const state = h("span");
  const about = h("div");
  const kpis = h("div");
  const radio = h("div");
  const batches = h("div", { class: "page" });
  const readings = new Tile(t("rate"));
  const volume = new Tile(t("traffic"));
  const skew = new Tile(t("skew"));
  const devices = new Table({
    caption: t("devices"),
    key: (row) => row.imei,
    columns: deviceColumns(fields, { station: false }),
  });
  const alarms = new Table({
    caption: t("alarms.recent"),
    key: (row) => row.id,
    columns: alarmColumns({ station: false }),
  });
  const alarmCard = card(
    t("alarms.recent"),
    alarms.element,
    h("p", null, h("a", { href: `#/alarms?station=${name}` }, t("all"))),
  );
  const count = h("a", { href: `#/devices?station=${name}` });
  const heading = h("h1", { tabindex: -1 }, name);
  let shown = false;

  await page.every(AGAIN, async () => {
    const told = await get(`api/v1/stations/${encodeURIComponent(name)}`, {}, page.signal);
    const few = await get("api/v1/devices", { station: name, limit: FEW }, page.signal);
    if (!shown) {
      shown = true;
      replace(
        page.root,
        h("div", { class: "bar" }, heading, state),
        h("div", { class: "tiles fresh" }, readings.element, volume.element, skew.element),
        h(
          "div",
          { class: "columns fresh" },
          card(t("station.about"), about),
          card(t("station.kpis"), kpis),
          card(t("station.radio"), radio),
          alarmCard,
        ),
        card(t("devices"), h("p", null, count), devices.element),
        card(t("station.batches"), h("p", { class: "muted" }, t("station.batches.note")), batches),
      );
    }
    const { station, traffic, clock_skew_ms: clock } = told;
    text(heading, station.name ? `${station.name} (${name})` : name);
    replace(state, stationBadge(station.state));
    replace(about, aboutStation(told));
    replace(kpis, status(fields, told.status));
    replace(radio, levels(told.radio));
    readings.set({
      figure: number(station.rate, 1),
      unit: t("unit.readings_s"),
      values: traffic.readings,
      note: kindsOf(fields, told.kinds),
    });
    volume.set({
      figure: bytes(traffic.bytes.reduce((sum, one) => sum + one, 0)),
      unit: t("station.minute"),
      values: traffic.bytes,
      note: today(told.today),
    });
    attribute(skew.element, "hidden", clock === null);
    if (clock !== null)
      skew.set({
        figure: length(clock.p50),
        unit: t("p50"),
        note: t("station.skew.note", { p95: length(clock.p95), n: number(clock.n) }),
      });
    devices.update(few.devices);
    text(count, t("station.devices", { n: number(told.devices.total) }));
    list(
      batches,
      told.batches,
      (one) => one.lsn,
      (one) => batch(fields, one),
    );
    // A service that watches for no alarms is not asked for any.
    const recent = live.city?.alarms
      ? await get("api/v1/alarms", { station: name, limit: FEW }, page.signal)
      : null;
    attribute(alarmCard, "hidden", recent === null);
    if (recent !== null) alarms.update(recent.alarms);
  });

  // Faster than the rest: the state and the rate are told every second.
  page.draw(() => {
    const now = live.stations.get(name);
    if (!now || !shown) return;
    if (state.firstChild?.textContent !== word("state", now.state)) replace(state, stationBadge(now.state));
  });
}

function aboutStation({ station, born_or_died_ms: born, last_will: will, connected }) {
  return facts([
    [t("connection"), badge(connected ? "good" : "bad", t(connected ? "connected" : "disconnected"))],
    [t("heard"), h("span", null, time(station.last_received_ms), ` · ${ago(station.last_received_ms)}`)],
    [t(station.online === false ? "died" : "born"), born === null ? null : time(born, true)],
    [t("session"), station.session],
    [t("firmware"), station.firmware],
    [t("will"), will === null ? t("will.none") : time(will.at_ms, true)],
    [t("area"), [station.area, station.region].filter(Boolean).join(" · ")],
    [
      t("project"),
      station.project &&
        h("a", { href: `#/projects/${encodeURIComponent(station.project)}` }, station.project),
    ],
    [
      t("place"),
      station.lat === null ? t("unregistered") : `${number(station.lat, 5)}° N, ${number(station.lon, 5)}° E`,
    ],
    [
      t("readings"),
      t("station.readings", {
        readings: number(station.readings),
        duplicates: number(station.duplicates),
        rejected: number(station.rejected),
      }),
    ],
  ]);
}

function status(fields, row) {
  if (row === null) return h("p", { class: "muted" }, t("station.kpis.none"));
  const present = fields.of("station_status").filter(({ field }) => field in row);
  return [
    facts(
      present.map(({ field }) => [
        fields.label("station_status", field),
        fields.value("station_status", field, row[field]),
      ]),
    ),
    h("p", { class: "muted" }, t("as.of"), " ", time(row.effective_ms)),
  ];
}

function levels(radio) {
  const rows = ["nrsrp_dbm", "nrsrq_db", "sinr_db"].filter((name) => radio?.[name]?.n > 0);
  if (rows.length === 0) return h("p", { class: "muted" }, t("station.radio.none"));
  const shares = radio.ce_level ?? {};
  const all = Object.values(shares).reduce((sum, one) => sum + one, 0);
  const unit = { nrsrp_dbm: "dBm", nrsrq_db: "dB", sinr_db: "dB" };
  return [
    scroll(
      t("station.radio"),
      h(
        "table",
        null,
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            ["figure", "least", "mean", "greatest", "devices"].map((head, at) =>
              h("th", { scope: "col", class: at > 0 ? "n" : null }, t(head)),
            ),
          ),
        ),
        h(
          "tbody",
          null,
          rows.map((name) =>
            h(
              "tr",
              null,
              h("th", { scope: "row" }, `${t(`radio.${name}`)} (${unit[name]})`),
              ["min", "mean", "max"].map((one) => h("td", { class: "n" }, number(radio[name][one], 1))),
              h("td", { class: "n" }, number(radio[name].n)),
            ),
          ),
        ),
      ),
    ),
    all === 0
      ? null
      : h(
          "p",
          null,
          t("radio.ce"),
          ": ",
          Object.entries(shares)
            .map(([level, n]) => `CE${level} ${number((100 * n) / all)} %`)
            .join(" · "),
        ),
  ];
}

function kindsOf(fields, kinds) {
  return Object.entries(kinds ?? {})
    .map(([kind, n]) => `${fields.kind(kind)} ${number(n)}`)
    .join(" · ");
}

function today(day) {
  return day ? t("station.today", { readings: number(day.readings), bytes: bytes(day.bytes) }) : "";
}
