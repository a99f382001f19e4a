// Alarms: those that last, those somebody knows of, those that are over.

import { get, post } from "../api.js";
import { alarmColumns } from "../alarm_table.js";
import { attribute, h, replace, text } from "../dom.js";
import { fields as askFields } from "../fields.js";
import { dateTime, number, time } from "../format.js";
import { t, word } from "../i18n.js";
import { live } from "../live.js";
import { attempt, Choice, confirm, labelled, select, Table } from "../parts.js";
import { soundIsOn, switchSound } from "../sound.js";

const PAGE = 100;
/** Alarms of an export, at most: it is gathered in the page. */
const EXPORTED = 10_000;
const STATES = ["open", "acknowledged", "cleared"];
const SEVERITIES = ["critical", "major", "minor"];
const FILTERS = ["state", "severity", "kind", "station", "device", "project", "q"];
/** The columns of an export: the API's own keys. */
const EXPORT = [
  "id",
  "rule",
  "severity",
  "state",
  "station",
  "imei",
  "kind",
  "project",
  "area",
  "why",
  "raised_ms",
  "effective_ms",
  "cleared_ms",
  "acknowledged_by",
  "acknowledged_ms",
  "note",
];

export const title = () => t("nav.alarms");

export async function show(page) {
  const fields = await askFields();
  let query = { state: "open", ...page.query };
  let rows = [];
  let next = null;
  let asked = 0;
  const told = h("div");
  const total = h("p", { class: "muted", role: "status" });
  const more = h("button", { type: "button", on: { click: () => load(true) } }, t("load.more"));
  const table = new Table({
    caption: title(),
    key: (row) => row.id,
    empty: t("alarms.none"),
    columns: [
      ...alarmColumns(),
      { name: t("why"), text: (row) => row.why },
      { name: t("cleared"), time: (row) => row.cleared_ms },
      {
        name: t("alarms.known"),
        text: (row) =>
          row.acknowledged_by
            ? t("alarms.by", { name: row.acknowledged_by, at: dateTime(row.acknowledged_ms) }) +
              (row.note ? ` · ${row.note}` : "")
            : "",
      },
      { name: t("act"), node: (row) => acknowledge(row) },
    ],
  });
  const states = new Choice(
    t("state"),
    STATES.map((value) => ({ value, words: t(`alarm_state.${value}`) })),
    (value) => change("state", value),
  );
  const severity = select(
    options(SEVERITIES, (one) => word("severity", one)),
    query.severity ?? "",
    (value) => change("severity", value),
  );
  const kinds = select(
    options(
      fields.kinds().filter((kind) => kind !== "station_status"),
      (one) => fields.kind(one),
    ),
    query.kind ?? "",
    (value) => change("kind", value),
  );
  const typed = (name) =>
    labelled(
      t(name === "q" ? "search" : name),
      h("input", {
        type: "search",
        value: query[name] ?? "",
        on: { change: (event) => change(name, event.target.value.trim()) },
      }),
    );
  const sound = h("input", {
    type: "checkbox",
    checked: soundIsOn(),
    on: { change: (event) => switchSound(event.target.checked) },
  });
  replace(
    page.root,
    h(
      "div",
      { class: "bar" },
      h("h1", { tabindex: -1 }, title()),
      h("label", null, sound, " ", t("alarms.sound")),
      h(
        "button",
        {
          type: "button",
          on: { click: () => attempt(told, (n) => t("alarms.exported", { n: number(n) }), exportAll) },
        },
        t("export.csv"),
      ),
    ),
    h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "bar" },
        states.element,
        labelled(t("severity"), severity),
        labelled(t("kind"), kinds),
        typed("station"),
        typed("device"),
        typed("project"),
        typed("q"),
      ),
      told,
      total,
      h("div", { class: "fresh" }, table.element),
      more,
    ),
  );
  states.press(query.state);
  await load(false);
  let due = null;
  page.on("alarm", () => {
    // A burst of alarms is one look.
    due ??= setTimeout(() => {
      due = null;
      load(false);
    }, 200);
  });
  page.on("hello", () => load(false));
  page.signal.addEventListener("abort", () => clearTimeout(due));

  function options(values, words) {
    return [{ value: "", words: t("all") }, ...values.map((value) => ({ value, words: words(value) }))];
  }

  function change(name, value) {
    query = { ...query, [name]: value };
    if (value === "") delete query[name];
    states.press(query.state);
    page.rewrite(query);
    load(false);
  }

  function filters() {
    return Object.fromEntries(FILTERS.map((name) => [name, query[name]]));
  }

  async function load(further) {
    asked += 1;
    const mine = asked;
    // A service that watches for no alarms is not asked for any; whether it does, the stream says first.
    if (!live.city?.alarms && live.status.state !== "lost") {
      text(total, t(live.city === null ? "loading" : "alarms.off"));
      attribute(more, "hidden", true);
      return;
    }
    try {
      // What was unfolded stays so when something changes.
      const limit = further ? PAGE : Math.max(PAGE, Math.min(rows.length, 1000));
      const answer = await get(
        "api/v1/alarms",
        { ...filters(), limit, after: further ? next : null },
        page.signal,
      );
      if (mine !== asked) return;
      rows = further ? [...rows, ...answer.alarms] : answer.alarms;
      next = answer.next;
      text(total, t("alarms.total", { shown: number(rows.length), n: number(answer.total) }));
    } catch (error) {
      if (mine !== asked || page.signal.aborted) return;
      rows = [];
      next = null;
      text(total, error.status === 404 ? t("alarms.off") : error.message);
    }
    table.update(rows);
    attribute(more, "hidden", next === null);
  }

  function acknowledge(row) {
    if (row.acknowledged_by) return time(row.acknowledged_ms);
    const button = h(
      "button",
      {
        type: "button",
        on: {
          click: async () => {
            const note = await confirm(
              t("alarms.acknowledge"),
              `${word("alarm", row.rule)}: ${row.station} ${row.imei ?? ""}`,
              { go: t("alarms.acknowledge"), field: { name: t("alarms.note") } },
            );
            if (note === null) return;
            const done = await attempt(told, t("alarms.acknowledged"), () =>
              post(`api/v1/alarms/${encodeURIComponent(row.id)}/acknowledge`, {
                query: note === "" ? {} : { note },
              }),
            );
            if (done !== null) {
              button.replaceWith(t("done"));
              load(false);
            }
          },
        },
      },
      t("alarms.acknowledge"),
    );
    return button;
  }

  /** All that match as a CSV file. */
  async function exportAll() {
    let all = [];
    let after = null;
    do {
      const answer = await get("api/v1/alarms", { ...filters(), limit: 1000, after }, page.signal);
      all = all.concat(answer.alarms);
      after = answer.next;
    } while (after !== null && all.length < EXPORTED);
    const lines = [EXPORT, ...all.map((alarm) => EXPORT.map((key) => alarm[key]))];
    const link = h("a", {
      download: "alarms.csv",
      href: URL.createObjectURL(
        new Blob([lines.map((line) => line.map(cell).join(",")).join("\r\n")], { type: "text/csv" }),
      ),
    });
    link.click();
    URL.revokeObjectURL(link.href);
    return all.length;
  }
}

/** A cell of CSV (RFC 4180). A spreadsheet would run what begins like a formula: it is told that it is text. */
function cell(value) {
  if (value === null || value === undefined) return "";
  let words = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(words)) words = `'${words}`;
  return /[",\r\n]/.test(words) ? `"${words.replaceAll('"', '""')}"` : words;
}
