// Numbers, lengths and times as people read them, in the language that is spoken.

import { current, t, tag } from "./i18n.js";
import { h } from "./dom.js";

const ZONE = "loushan.zone";
/** The city's clock: UTC+8, all year. */
const CITY = "Asia/Shanghai";

const cache = new Map();

/** A formatter of the browser, made once. */
function formatter(Kind, options) {
  const key = Kind.name + tag() + JSON.stringify(options);
  if (!cache.has(key)) cache.set(key, new Kind(tag(), options));
  return cache.get(key);
}

function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** A number with at most so many digits behind the point. */
export function number(value, digits = 0) {
  if (!known(value)) return t("none");
  return formatter(Intl.NumberFormat, { maximumFractionDigits: digits }).format(value);
}

/** A number as short as a tile wants it: 9,981 or 12.3M. */
export function short(value) {
  if (!known(value)) return t("none");
  if (Math.abs(value) < 100_000) return number(value, Math.abs(value) < 10 ? 1 : 0);
  // British "m" would be read as milli.
  const compact = { notation: "compact", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(current() === "zh" ? "zh-CN" : "en-US", compact).format(value);
}

/** A share of one as percent. */
export function percent(value, digits = 0) {
  if (!known(value)) return t("none");
  return formatter(Intl.NumberFormat, { style: "percent", maximumFractionDigits: digits }).format(value);
}

/** Bytes, in powers of a thousand. */
export function bytes(value) {
  if (!known(value)) return t("none");
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  let scaled = value;
  while (Math.abs(scaled) >= 1000 && at < units.length - 1) {
    scaled /= 1000;
    at += 1;
  }
  return `${number(scaled, at > 0 && Math.abs(scaled) < 100 ? 1 : 0)} ${units[at]}`;
}

const LENGTHS = [
  [86_400_000, "unit.d"],
  [3_600_000, "unit.h"],
  [60_000, "unit.min"],
  [1000, "unit.s"],
  [1, "unit.ms"],
];

/** A length of time, in the greatest unit that fits: 1.9 ms, 12 s, 3.5 h. */
export function length(ms) {
  if (!known(ms)) return t("none");
  const [size, unit] = LENGTHS.find(([one]) => Math.abs(ms) >= one) ?? LENGTHS[LENGTHS.length - 1];
  const scaled = ms / size;
  return `${number(scaled, Math.abs(scaled) < 10 ? 1 : 0)} ${t(unit)}`;
}

/** How long ago a moment was. */
export function ago(ms, now = Date.now()) {
  if (!known(ms)) return t("never");
  return now - ms < 1000 ? t("just.now") : t("ago", { length: length(now - ms) });
}

/** Whose clock is shown: `viewer` or `city`. */
export function zone() {
  return localStorage.getItem(ZONE) === "city" ? "city" : "viewer";
}

/** Shows another clock from now on. */
export function showZone(which) {
  localStorage.setItem(ZONE, which);
}

/** The name of the zone for the browser's formats; none is the viewer's. */
export function zoneName(which = zone()) {
  return which === "city" ? CITY : undefined;
}

function clock(ms, options, which = zone()) {
  return formatter(Intl.DateTimeFormat, { hourCycle: "h23", timeZone: zoneName(which), ...options }).format(
    ms,
  );
}

const SECONDS = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const DAY = { year: "numeric", month: "2-digit", day: "2-digit" };

/** A time of day. */
export function timeOfDay(ms, which) {
  return known(ms) ? clock(ms, SECONDS, which) : t("none");
}

/** A day and a time of day. */
export function dateTime(ms, which) {
  return known(ms) ? clock(ms, { ...DAY, ...SECONDS }, which) : t("none");
}

/** A moment in both clocks, for whoever looks closer. */
export function bothClocks(ms) {
  return `${dateTime(ms, "viewer")} (${t("zone.viewer")}) · ${dateTime(ms, "city")} (${t("zone.city")})`;
}

/** A moment as an element; the time of day alone where it is of today and `whole` is not asked for. */
export function time(ms, whole = false) {
  if (!known(ms)) return h("span", { class: "muted" }, t("never"));
  const today = clock(ms, DAY) === clock(Date.now(), DAY);
  const text = whole || !today ? dateTime(ms) : timeOfDay(ms);
  return h("time", { datetime: new Date(ms).toISOString(), title: bothClocks(ms) }, text);
}

/** The label of a moment on an axis whose marks lie `step` milliseconds apart. */
export function tick(ms, step) {
  if (step >= 86_400_000) return clock(ms, { month: "2-digit", day: "2-digit" });
  const midnight = clock(ms, { hour: "2-digit", minute: "2-digit" });
  if (step >= 3_600_000 && midnight === "00:00") return clock(ms, { month: "2-digit", day: "2-digit" });
  return step >= 60_000 ? midnight : clock(ms, SECONDS);
}

/** How far the shown clock is ahead of UTC at a moment, in milliseconds. */
export function offset(ms) {
  if (zone() === "city") return 8 * 3_600_000;
  return -new Date(ms).getTimezoneOffset() * 60_000;
}
