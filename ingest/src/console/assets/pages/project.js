// A project: what it has, how much of its quota it has used, and its data to take away.

import { get, save } from "../api.js";
import { h, replace } from "../dom.js";
import { fields as askFields } from "../fields.js";
import { ago, bytes, number, percent } from "../format.js";
import { t, word } from "../i18n.js";
import { attempt, badge, card, facts, select, STATION_STATES, Table, labelled } from "../parts.js";
import { kindCards } from "./kinds.js";
import { QUOTAS } from "./projects.js";

const AGAIN = 5000;
const FORMATS = ["csv", "ndjson", "parquet", "arrow"];

export const title = (name) => name;

export async function show(page) {
  const name = page.argument;
  const fields = await askFields();
  const about = h("div");
  const quota = h("div");
  const kinds = h("div", { class: "columns fresh" });
  const told = h("div");
  let format = FORMATS[0];
  const stations = new Table({
    caption: t("stations"),
    key: (row) => row.station,
    columns: [
      {
        name: t("station"),
        text: (row) => row.station,
        href: (row) => `#/stations/${encodeURIComponent(row.station)}`,
      },
      { name: t("name"), text: (row) => row.name ?? t("unregistered") },
      { name: t("area"), text: (row) => row.area ?? "" },
      {
        name: t("state"),
        text: (row) => word("state", row.state),
        state: (row) => STATION_STATES[row.state],
      },
      { name: t("rate"), n: true, text: (row) => number(row.rate, 1) },
      { name: t("heard"), text: (row) => ago(row.last_received_ms) },
    ],
  });
  let shown = false;
  await page.every(AGAIN, async () => {
    const answer = await get(`api/v1/projects/${encodeURIComponent(name)}`, {}, page.signal);
    const { project } = answer;
    if (!shown) {
      shown = true;
      const take = ({ kind, url }) =>
        h(
          "button",
          {
            type: "button",
            on: {
              click: () =>
                attempt(told, t("export.begun"), () => save(url, { format }, `${name}-${kind}.${format}`)),
            },
          },
          fields.kind(kind),
        );
      replace(
        page.root,
        h(
          "div",
          { class: "bar" },
          h("h1", { tabindex: -1 }, name),
          h("a", { href: `#/alarms?project=${encodeURIComponent(name)}` }, t("alarms")),
        ),
        h(
          "div",
          { class: "columns fresh" },
          card(t("project.about"), about),
          card(t("quota"), quota),
          card(
            t("export"),
            labelled(
              t("export.format"),
              select(
                FORMATS.map((value) => ({ value, words: value })),
                format,
                (value) => {
                  format = value;
                },
              ),
            ),
            h("div", { class: "buttons" }, answer.export.map(take)),
            told,
          ),
        ),
        kinds,
        h("section", { class: "card fresh" }, h("h2", null, t("stations")), stations.element),
      );
    }
    replace(
      about,
      facts([
        [t("stations"), t("of.both", { n: number(project.online), all: number(project.stations) })],
        [t("devices"), number(project.devices)],
        [t("rate"), t("per.second", { n: number(project.rate, 1) })],
        [t("readings"), number(project.readings)],
        [t("rejected"), number(project.rejected)],
        [t("areas"), answer.areas.join(", ")],
      ]),
    );
    replace(quota, quotaOf(project));
    kindCards(
      kinds,
      fields,
      answer.kinds.filter(({ devices }) => devices > 0),
      `?project=${encodeURIComponent(name)}`,
    );
    stations.update(answer.stations);
  });
}

function quotaOf({ today, quota }) {
  const bounds = [
    ["readings_per_day", number],
    ["bytes_per_day", bytes],
  ].filter(([bound]) => quota[bound] !== null && quota[bound] !== undefined);
  return [
    h("p", null, badge(QUOTAS[quota.state], word("quota", quota.state))),
    facts([
      [t("today.readings", { day: today?.day ?? "" }), number(today?.readings)],
      [t("today.bytes"), bytes(today?.bytes)],
      ...bounds.map(([bound, show]) => [t(`quota.${bound}`), show(quota[bound])]),
    ]),
    bounds.length === 0
      ? null
      : h(
          "div",
          { class: "meter" },
          h("meter", {
            min: 0,
            max: 1,
            high: 0.8,
            optimum: 0,
            value: Math.min(1, quota.used),
            "aria-label": t("quota.used"),
          }),
          h("span", null, percent(quota.used, 1)),
        ),
  ];
}
