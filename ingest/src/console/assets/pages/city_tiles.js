// The figures above the map, each with a minute of its history.

import { attribute, h } from "../dom.js";
import { bytes, length, number, short } from "../format.js";
import { t, word } from "../i18n.js";
import { live } from "../live.js";
import { Tile } from "../parts.js";

/** A share of the disk's floor at which it is said that there is little left. */
const NEAR_FLOOR = 2;

/** What each tile shows of a `city` event; null where the event does not have it (a project's reader). */
const TILES = {
  received: (city) =>
    city.rates.received !== undefined && {
      figure: short(city.rates.received),
      unit: t("unit.readings_s"),
      values: live.series.received,
      note: t("tile.received.note", {
        publishes: short(city.rates.publishes),
        bytes: bytes(city.rates.payload_bytes),
      }),
    },
  accepted: (city) => ({
    figure: short(city.rates.accepted),
    unit: t("unit.readings_s"),
    values: live.series.accepted,
    note: kinds(city.kinds),
  }),
  stored: (city) =>
    city.rates.stored !== undefined && {
      figure: short(city.rates.stored),
      unit: t("unit.readings_s"),
      values: live.series.stored,
      note:
        city.store &&
        t("tile.stored.note", { readings: short(city.store.readings), bytes: bytes(city.store.bytes) }),
    },
  refused: (city) =>
    city.rates.rejected !== undefined && {
      figure: number(city.rates.rejected, 1),
      unit: t("unit.readings_s"),
      values: live.series.rejected,
      state: city.rates.rejected + city.rates.shed > 0 ? "warn" : "good",
      note: t("tile.refused.note", {
        duplicate: number(city.rates.duplicate, 1),
        shed: number(city.rates.shed, 1),
      }),
    },
  books: (city) =>
    city.books && {
      figure: number(city.books.residue),
      unit: t("tile.books.residue"),
      values: live.series.pending,
      state: city.books.residue === 0 ? "good" : "bad",
      note: t("tile.books.note", books(city.books)),
    },
  ack: (city) =>
    city.latency && {
      figure: length(city.latency.ack_p50_ms),
      unit: t("p50"),
      values: live.series.ack_p99_ms,
      note: t("tile.ack.note", {
        p99: length(city.latency.ack_p99_ms),
        durable: length(city.latency.durable_p99_ms),
      }),
    },
  end_to_end: (city) =>
    city.latency && {
      figure: length(city.latency.end_to_end_p50_ms),
      unit: t("p50"),
      values: live.series.end_to_end_p99_ms,
      note: t("tile.end_to_end.note", { p99: length(city.latency.end_to_end_p99_ms) }),
    },
  lag: (city) =>
    city.sinks && {
      figure: length(1000 * Math.max(0, ...city.sinks.map((sink) => sink.lag_seconds ?? 0))),
      values: live.series.lag_seconds,
      state: city.sinks.some((sink) => sink.trouble || sink.state === "failed")
        ? "bad"
        : city.sinks.some((sink) => sink.state !== "running")
          ? "warn"
          : "good",
      note: city.sinks
        .map((sink) => `${sink.name} ${word("sink", sink.state)} ${bytes(sink.lag_bytes)}`)
        .join(" · "),
    },
  disk: (city) =>
    city.log && {
      figure: bytes(city.log.free_bytes),
      unit: t("tile.disk.free"),
      values: live.series.log_bytes,
      state: city.log.refuses
        ? "bad"
        : city.log.free_bytes < NEAR_FLOOR * city.log.floor_bytes
          ? "warn"
          : "good",
      note:
        city.log.refuses ??
        t("tile.disk.note", { log: bytes(city.log.disk_bytes), segments: number(city.log.segments) }),
    },
  alarms: (city) =>
    city.alarms && {
      figure: number(city.alarms.critical + city.alarms.major + city.alarms.minor),
      unit: t("tile.alarms.unit"),
      values: live.series.alarms,
      state: city.alarms.critical > 0 ? "bad" : city.alarms.major > 0 ? "warn" : "good",
      note: t("tile.alarms.note", city.alarms),
    },
  online: (city) => ({
    figure: number(city.stations.online),
    unit: t("of", { n: number(city.stations.total) }),
    values: live.series.online,
    state: city.stations.offline + city.stations.silent > 0 ? "warn" : "good",
    note: t("tile.online.note", {
      offline: number(city.stations.offline),
      silent: number(city.stations.silent),
      devices: short(city.devices),
    }),
  }),
  memory: (city) =>
    city.memory && {
      figure: bytes(city.memory.resident_bytes),
      values: live.series.resident_bytes,
      note:
        city.broker &&
        t("tile.memory.note", {
          connections: number(city.broker.connections),
          bytes: bytes(city.broker.in_flight_bytes),
        }),
    },
};

/** The tiles. */
export class Tiles {
  #tiles = Object.keys(TILES).map((name) => {
    const tile = new Tile(t(`tile.${name}`));
    tile.element.dataset.tile = name;
    return [name, tile];
  });

  element = h(
    "section",
    { class: "tiles fresh", "aria-label": t("tiles") },
    this.#tiles.map(([, tile]) => tile.element),
  );

  /** Shows the newest `city` event. */
  update() {
    for (const [name, tile] of this.#tiles) {
      const shown = TILES[name](live.city);
      attribute(tile.element, "hidden", !shown);
      if (shown) tile.set(shown);
    }
  }
}

function books({ received, accepted, duplicate, rejected, shed, undecided }) {
  const figures = { received, accepted, duplicate, rejected, shed, undecided };
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, short(value)]));
}

function kinds(rates) {
  const busy = Object.entries(rates ?? {})
    .filter(([, rate]) => rate > 0)
    .sort((a, b) => b[1] - a[1]);
  return busy
    .slice(0, 3)
    .map(([kind, rate]) => `${word("kind", kind)} ${short(rate)}`)
    .join(" · ");
}
