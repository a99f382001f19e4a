// The city: where its stations stand and how they are, and what comes in.

import { get } from "../api.js";
import { CityMap } from "../drawings/map.js";
import { attribute, h, replace, text } from "../dom.js";
import { ago, number } from "../format.js";
import { t, word } from "../i18n.js";
import { live } from "../live.js";
import { facts, STATION_STATES, stationBadge, Table } from "../parts.js";
import { Tiles } from "./city_tiles.js";

/** Stations of the list of those that are not well. */
const TROUBLED = 12;
const BAD = { offline: 0, silent: 1 };

export const title = () => t("nav.city");

export async function show(page) {
  const { stations } = await get("api/v1/stations", {}, page.signal);
  const known = new Map(stations.map((station) => [station.station, station]));
  // Until the stream has told: as they were a moment ago.
  const now = (name) => live.stations.get(name) ?? known.get(name) ?? {};

  const map = new CityMap({
    link,
    label: (name) => describe(known.get(name), now(name)),
    look: (name) => look(name),
  });
  const looked = h("div", { "aria-live": "off" }, h("p", { class: "muted" }, t("city.look")));
  const troubled = new Table({
    caption: t("city.troubled"),
    key: (row) => row.station,
    empty: t("city.well"),
    columns: [
      { name: t("station"), text: (row) => row.name ?? row.station, href: (row) => link(row.station) },
      {
        name: t("state"),
        text: (row) => word("state", row.state),
        state: (row) => STATION_STATES[row.state],
      },
      { name: t("heard"), text: (row) => ago(row.last_heard_ms) },
    ],
  });
  const more = h("p", { class: "muted" });
  const tiles = new Tiles();
  const reasons = h("div");
  const all = allStations(page, known, now);
  replace(
    page.root,
    h("div", { class: "bar" }, h("h1", { tabindex: -1 }, title())),
    reasons,
    tiles.element,
    h(
      "div",
      { class: "city fresh" },
      map.element,
      h(
        "div",
        { class: "page" },
        h("section", { class: "card" }, h("h2", null, t("city.looked")), looked),
        h("section", { class: "card" }, h("h2", null, t("city.troubled")), troubled.element, more),
      ),
    ),
    all.element,
  );

  let lookedAt = null;
  function look(name) {
    lookedAt = name;
    const station = known.get(name);
    const { state, rate, last_heard_ms: heard } = now(name);
    replace(
      looked,
      facts([
        [t("station"), h("a", { href: link(name) }, station?.name ? `${station.name} (${name})` : name)],
        [t("state"), stationBadge(state)],
        [t("rate"), t("per.second", { n: number(rate, 1) })],
        [t("heard"), ago(heard)],
        [t("area"), station?.area],
        [
          t("project"),
          station?.project &&
            h("a", { href: `#/projects/${encodeURIComponent(station.project)}` }, station.project),
        ],
      ]),
    );
  }

  map.place(stations);
  let asking = false;
  page.draw((changed) => {
    tiles.update();
    showReasons(reasons, live.city.readiness);
    for (const name of changed ?? live.stations.keys())
      map.update(name, now(name).state, now(name).rate ?? 0);
    if (lookedAt !== null && (changed === null || changed.has(lookedAt))) look(lookedAt);
    const bad = [...live.stations.values()]
      .filter((station) => station.state in BAD)
      .sort((a, b) => BAD[a.state] - BAD[b.state] || (b.last_heard_ms ?? 0) - (a.last_heard_ms ?? 0));
    troubled.update(bad.slice(0, TROUBLED).map((station) => ({ ...known.get(station.station), ...station })));
    text(more, bad.length > TROUBLED ? t("more", { n: number(bad.length - TROUBLED) }) : "");
    all.update();
    // A station that nobody has told us of: its name and place are asked for.
    if (!asking && [...live.stations.keys()].some((name) => !known.has(name))) {
      asking = true;
      again().catch(() => null);
    }
  });

  async function again() {
    const answer = await get("api/v1/stations", {}, page.signal);
    for (const station of answer.stations) known.set(station.station, station);
    // Those the answer does not have yet are not asked for again and again.
    for (const name of live.stations.keys())
      if (!known.has(name)) known.set(name, { station: name, lat: null, lon: null });
    map.place([...known.values()]);
    for (const name of known.keys()) map.update(name, now(name).state, now(name).rate ?? 0);
    asking = false;
  }
}

function link(name) {
  return `#/stations/${encodeURIComponent(name)}`;
}

function describe(station, { state, rate, last_heard_ms: heard }) {
  const name = station?.name ? `${station.name}, ${station.station}` : station?.station;
  return t("map.station", { name, state: word("state", state), rate: number(rate, 1), heard: ago(heard) });
}

/** Why the service is not ready, or what is amiss. */
function showReasons(where, readiness) {
  const reasons = readiness?.reasons ?? [];
  const key = JSON.stringify(reasons);
  if (where.dataset.key === key) return;
  where.dataset.key = key;
  attribute(where, "hidden", reasons.length === 0);
  const red = reasons.some((reason) => reason.red);
  replace(
    where,
    h(
      "div",
      { class: `notice ${red ? "bad" : "warn"}`, role: red ? "alert" : "status" },
      h("strong", null, t(red ? "ready.not" : "ready.but")),
      h(
        "ul",
        null,
        reasons.map(({ component, what }) => h("li", null, `${component}: ${what}`)),
      ),
    ),
  );
}

/** All stations as a table, for whoever cannot use a map; built when it is opened. */
function allStations(page, known, now) {
  const filter = h("input", { type: "search", "aria-label": t("filter"), placeholder: t("filter") });
  const table = new Table({
    caption: t("city.all"),
    key: (row) => row.station,
    columns: [
      { name: t("station"), text: (row) => row.station, href: (row) => link(row.station) },
      { name: t("name"), text: (row) => row.name ?? t("unregistered") },
      { name: t("area"), text: (row) => row.area ?? "" },
      { name: t("project"), text: (row) => row.project ?? "" },
      {
        name: t("state"),
        text: (row) => word("state", row.state),
        state: (row) => STATION_STATES[row.state],
      },
      { name: t("rate"), n: true, text: (row) => number(row.rate, 1) },
    ],
  });
  const element = h("details", { class: "card" }, h("summary", null, t("city.all")), filter, table.element);
  const update = () => {
    if (!element.open) return;
    const wanted = filter.value.trim().toLowerCase();
    const rows = [...known.values()].map((station) => ({ ...station, ...now(station.station) }));
    const has = (row) =>
      [row.station, row.name, row.area, row.project, row.state].some((one) =>
        one?.toLowerCase().includes(wanted),
      );
    table.update(rows.filter((row) => wanted === "" || has(row)));
  };
  element.addEventListener("toggle", update);
  filter.addEventListener("input", update);
  return { element, update };
}
