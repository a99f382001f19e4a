// One kind of devices: by area, by hour where that says something, and which of them need somebody.

import { get } from "../api.js";
import { h, list, replace, s, text } from "../dom.js";
import { deviceColumns } from "../device_table.js";
import { fields as askFields } from "../fields.js";
import { dateTime, number, tick } from "../format.js";
import { t, word } from "../i18n.js";
import { card, scroll, Table } from "../parts.js";
import { Shares, stateWord } from "../shares.js";

const AGAIN = 5000;
const HOUR = 3_600_000;

export const title = (kind) => word("kind", kind);

export async function show(page) {
  const kind = page.argument;
  const fields = await askFields();
  const { project } = page.query;
  const words = (state) => stateWord(fields, kind, state);
  const shares = new Shares(words);
  const total = h("p");
  const areas = h("tbody");
  const drawn = new WeakMap();
  const noteworthy = new Table({
    caption: t("kind.noteworthy"),
    key: (row) => row.imei,
    empty: t("kind.quiet"),
    columns: [
      { name: t("why"), text: (row) => String(row.why).split(",").map(words).join(", ") },
      ...deviceColumns(fields),
    ],
  });
  const hours = h("div");
  const heading = h(
    "h1",
    { tabindex: -1 },
    project ? `${fields.kind(kind)} · ${project}` : fields.kind(kind),
  );
  let shown = false;
  await page.every(AGAIN, async () => {
    const told = await get(`api/v1/kinds/${encodeURIComponent(kind)}`, { project }, page.signal);
    if (!shown) {
      shown = true;
      const all = `#/devices?kind=${kind}${project ? `&project=${encodeURIComponent(project)}` : ""}`;
      replace(
        page.root,
        h("div", { class: "bar" }, heading, h("a", { href: all }, t("kind.all"))),
        h("section", { class: "card fresh" }, h("h2", null, t("kind.states")), total, shares.element),
        told.hours ? card(t("kind.hours"), hours) : null,
        card(t("kind.noteworthy"), noteworthy.element),
        card(
          t(`kind.areas.${kind}`),
          scroll(
            t("kind.areas"),
            h(
              "table",
              null,
              h(
                "thead",
                null,
                h(
                  "tr",
                  null,
                  h("th", { scope: "col" }, t("area")),
                  h("th", { scope: "col", class: "n" }, t("devices")),
                  h("th", { scope: "col" }, t("state")),
                ),
              ),
              areas,
            ),
          ),
        ),
      );
    }
    text(total, t("kind.total", { n: number(told.summary.devices) }));
    shares.update(told.summary.states);
    noteworthy.update(told.noteworthy);
    list(
      areas,
      told.areas,
      (row) => row.area ?? "",
      () => {
        const line = new Shares(words);
        const row = h(
          "tr",
          null,
          h("th", { scope: "row" }),
          h("td", { class: "n" }),
          h("td", null, line.element),
        );
        drawn.set(row, line);
        return row;
      },
      (row, area) => {
        text(row.children[0], area.area ?? t("unregistered"));
        text(row.children[1], number(area.devices));
        drawn.get(row).update(area.states);
      },
    );
    if (told.hours) replace(hours, litres(told.hours));
  });
}

/** Litres of each hour as bars, and as a table for whoever cannot see them. */
function litres(hours) {
  const [width, height, below] = [720, 160, 20];
  const most = Math.max(1, ...hours.map((hour) => hour.litres ?? 0));
  const wide = width / hours.length;
  const bars = hours.map((hour, at) => {
    const known = hour.litres !== null;
    const high = known ? (hour.litres / most) * (height - below) : height - below;
    return s(
      "rect",
      {
        class: known ? null : "unknown",
        x: (at * wide + 1).toFixed(1),
        width: (wide - 2).toFixed(1),
        y: (height - below - high).toFixed(1),
        height: high.toFixed(1),
      },
      s("title", null, `${dateTime(hour.from_ms)}: ${known ? `${number(hour.litres)} L` : t("unknown")}`),
    );
  });
  const marks = hours.map((hour, at) =>
    at % 3 === 0 ? s("text", { x: at * wide, y: height - 5 }, tick(hour.from_ms, HOUR)) : null,
  );
  const rows = hours.map((hour) =>
    h(
      "tr",
      null,
      h("td", null, dateTime(hour.from_ms)),
      h("td", { class: "n" }, hour.litres === null ? t("unknown") : `${number(hour.litres)} L`),
    ),
  );
  return [
    h(
      "div",
      { class: "chart" },
      s(
        "svg",
        {
          class: "bars",
          viewBox: `0 0 ${width} ${height}`,
          role: "img",
          "aria-label": t("kind.hours.most", { n: number(most) }),
        },
        bars,
        marks,
      ),
    ),
    h(
      "details",
      null,
      h("summary", null, t("chart.table")),
      h(
        "table",
        null,
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, t("time")),
            h("th", { scope: "col", class: "n" }, t("kind.litres")),
          ),
        ),
        h("tbody", null, rows),
      ),
    ),
  ];
}
