// What is going on now: one stream for the whole page, what it has told, and who wants to know.
//
// Events only mark what they change; pages draw at most twice a second, and not at all while nobody can see
// them. A page that is hidden for long ends the stream, unless it is to sound an alarm.

import { request } from "./api.js";
import { Stream } from "./sse.js";
import { soundIsOn } from "./sound.js";

/** Milliseconds between two drawings. */
const PACE = 500;
/** The service tells something every second: after so long without, it is not live. */
const SILENCE = 5_000;
/** Milliseconds hidden after which the stream ends. */
const HIDDEN = 10_000;
/** Seconds of history that tiles show. */
export const MINUTE = 60;

/** The newest value of each series of `/api/v1/live/history`, out of a `city` event. */
const SERIES = {
  received: (city) => city.rates.received,
  accepted: (city) => city.rates.accepted,
  duplicate: (city) => city.rates.duplicate,
  rejected: (city) => city.rates.rejected,
  shed: (city) => city.rates.shed,
  stored: (city) => city.rates.stored,
  ack_p50_ms: (city) => city.latency?.ack_p50_ms,
  ack_p99_ms: (city) => city.latency?.ack_p99_ms,
  durable_p99_ms: (city) => city.latency?.durable_p99_ms,
  end_to_end_p50_ms: (city) => city.latency?.end_to_end_p50_ms,
  end_to_end_p99_ms: (city) => city.latency?.end_to_end_p99_ms,
  lag_seconds: (city) => city.sinks && Math.max(0, ...city.sinks.map((sink) => sink.lag_seconds ?? 0)),
  log_bytes: (city) => city.log?.disk_bytes,
  free_bytes: (city) => city.log?.free_bytes,
  resident_bytes: (city) => city.memory?.resident_bytes,
  pending: (city) => city.books?.pending,
  online: (city) => city.stations?.online,
  alarms: (city) => city.alarms && city.alarms.critical + city.alarms.major + city.alarms.minor,
};

class Live extends EventTarget {
  /** `connecting`, `live`, `lost` or `paused`; when it was told; when the next attempt is. */
  status = { state: "connecting", since: Date.now(), retryAt: null };
  /** When something came last. */
  heardAt = null;
  /** The newest `city` event. */
  city = null;
  /** The last minute of each series, oldest first. */
  series = {};
  /** Stations by name: state, rate, last_heard_ms. */
  stations = new Map();
  /** Stations that changed since the last drawing; null: all. */
  changed = null;

  #stream = null;
  #focus = {};
  #drawers = new Set();
  #timer = null;
  #drawnAt = 0;
  #hiding = null;

  /** Opens the stream. */
  start() {
    this.#stream = new Stream({
      silence: SILENCE,
      open: (signal, lastId) =>
        request("api/v1/live", {
          query: this.#focus,
          signal,
          headers: { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) },
        }),
      onEvent: (event) => this.#event(event),
      onState: (status) => this.#state(status),
    });
    this.#stream.start();
    document.addEventListener("visibilitychange", () => this.#visibility());
  }

  /** Asks for the readings of a station or device, too; another page's wish is forgotten. */
  focus(query) {
    if (JSON.stringify(query) === JSON.stringify(this.#focus)) return;
    this.#focus = query;
    if (this.status.state !== "paused") this.#stream?.retry();
  }

  /** Tries at once. */
  retry() {
    this.#stream.retry();
  }

  /** Calls `drawer` when something has changed, at the page's pace, until the signal. */
  draw(drawer, signal) {
    this.#drawers.add(drawer);
    signal.addEventListener("abort", () => this.#drawers.delete(drawer));
    if (this.city !== null) drawer(null);
  }

  #visibility() {
    clearTimeout(this.#hiding);
    if (!document.hidden) {
      if (this.status.state === "paused") this.#stream.start();
      this.#soon();
    } else if (!soundIsOn()) {
      this.#hiding = setTimeout(() => this.#stream.stop(), HIDDEN);
    }
  }

  #state({ state, error = null, retryAt = null }) {
    if (state === "live") this.heardAt = Date.now();
    const named = state === "stopped" ? "paused" : state;
    if (named === this.status.state && retryAt === this.status.retryAt) return;
    const since = named === this.status.state ? this.status.since : Date.now();
    this.status = { state: named, since, retryAt, error };
    this.dispatchEvent(new Event("status"));
  }

  #event({ type, data }) {
    const told = JSON.parse(data);
    if (type === "hello") {
      this.city = told.city;
      this.series = told.history.series;
      for (const name of Object.keys(this.series)) this.series[name] = this.series[name].slice(-MINUTE);
      this.#stations(told.stations);
    } else if (type === "city") {
      this.city = told;
      for (const [name, values] of Object.entries(this.series)) {
        values.push(SERIES[name]?.(told) ?? null);
        if (values.length > MINUTE) values.shift();
      }
    } else if (type === "stations") {
      this.#stations(told);
    }
    this.dispatchEvent(new CustomEvent(type, { detail: told }));
    this.#soon();
  }

  #stations({ full, columns, rows }) {
    if (full) {
      this.stations.clear();
      this.changed = null;
    }
    for (const row of rows) {
      const station = Object.fromEntries(columns.map((column, at) => [column, row[at]]));
      this.stations.set(station.station, station);
      this.changed?.add(station.station);
    }
  }

  #soon() {
    if (this.#timer !== null || document.hidden || this.city === null) return;
    const wait = Math.max(0, this.#drawnAt + PACE - performance.now());
    this.#timer = setTimeout(
      () =>
        requestAnimationFrame(() => {
          this.#timer = null;
          this.#drawnAt = performance.now();
          const changed = this.changed;
          this.changed = new Set();
          for (const drawer of this.#drawers) drawer(changed);
        }),
      wait,
    );
  }
}

/** The page's stream. */
export const live = new Live();
