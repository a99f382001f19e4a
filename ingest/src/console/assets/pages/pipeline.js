// The pipeline: every stage from the socket to the stores, what waits in it, what it refused, and the means
// to mend it.

import { get } from "../api.js";
import { h, list, replace, text } from "../dom.js";
import { fields as askFields } from "../fields.js";
import { bytes, number, percent, short, time } from "../format.js";
import { t, word } from "../i18n.js";
import { badge, card, facts, scroll, Table } from "../parts.js";
import { hexdump } from "../readings.js";
import { DeadLetters } from "./pipeline_letters.js";
import { Sinks } from "./pipeline_sinks.js";

const AGAIN = 2000;
/** Segments that are listed. */
const SEGMENTS = 100;

export const title = () => t("nav.pipeline");

export async function show(page) {
  const fields = await askFields();
  const stages = h("ol", { class: "journey stages" });
  const books = h("div");
  const log = h("div");
  const rejects = h("div", { class: "page" });
  const queues = new Table({
    caption: t("queues"),
    key: (row) => row.queue,
    columns: [
      { name: t("queue"), text: (row) => row.queue },
      { name: t("used"), n: true, text: (row) => bytes(row.bytes) },
      { name: t("bound"), n: true, text: (row) => (row.bound_bytes ? bytes(row.bound_bytes) : t("none")) },
      {
        name: t("share.used"),
        n: true,
        text: (row) => (row.bound_bytes ? percent(row.bytes / row.bound_bytes, 1) : t("none")),
        state: (row) => full(row),
      },
      { name: t("key"), text: (row) => row.key ?? "" },
    ],
  });
  const segments = new Table({
    caption: t("segments"),
    key: (row) => row.first_lsn,
    columns: [
      { name: t("segment.first"), n: true, text: (row) => number(row.first_lsn) },
      { name: t("segment.last"), n: true, text: (row) => number(row.last_lsn) },
      { name: t("used"), n: true, text: (row) => bytes(row.used_bytes) },
      { name: t("size"), n: true, text: (row) => bytes(row.size_bytes) },
    ],
  });
  const sinks = new Sinks();
  const letters = new DeadLetters(fields);
  let shown = false;
  await page.every(AGAIN, async () => {
    const [told, conservation] = await Promise.all([
      get("api/v1/pipeline", {}, page.signal),
      get("api/v1/conservation", {}, page.signal),
    ]);
    if (!shown) {
      shown = true;
      replace(
        page.root,
        h("div", { class: "bar" }, h("h1", { tabindex: -1 }, title())),
        h("section", { class: "card fresh" }, h("h2", null, t("stages")), stages),
        h("div", { class: "columns fresh" }, card(t("books"), books), card(t("queues"), queues.element)),
        h("section", { class: "card fresh" }, h("h2", null, t("sinks")), sinks.element),
        h("div", { class: "columns" }, card(t("rejects"), rejects), letters.element),
        h(
          "section",
          { class: "card fresh" },
          h("h2", null, t("log")),
          log,
          h("details", null, h("summary", null, t("segments")), segments.element),
        ),
      );
    }
    list(
      stages,
      told.stages,
      ({ stage }) => stage,
      ({ stage }) =>
        h(
          "li",
          { "data-stage": stage },
          h("strong", null, word("stage", stage)),
          h("span", { class: "figure" }),
          h("span", { class: "muted" }),
        ),
      (item, { rate, unit }) => {
        text(item.children[1], short(rate));
        text(item.children[2], word("rate_unit", unit));
      },
    );
    replace(books, equation(conservation, told.counts));
    queues.update(told.queues);
    sinks.update(told.sinks);
    letters.update(told.dead_letters);
    list(
      rejects,
      told.rejects.filter(({ count }) => count > 0),
      ({ reason }) => reason,
      (reject) => reason(reject),
      (element, reject) => element.update(reject),
    );
    if (rejects.children.length === 0 && !told.rejects.some(({ count }) => count > 0))
      rejects.replaceChildren(h("p", { class: "muted" }, t("rejects.none")));
    const { stats } = told.log;
    replace(
      log,
      facts([
        [t("log.disk"), t("log.segments", { bytes: bytes(stats.disk_bytes), n: number(stats.segments) })],
        [t("log.max"), stats.max_bytes === null ? null : bytes(stats.max_bytes)],
        [
          t("tile.disk.free"),
          t("log.floor", { free: bytes(stats.free_bytes), floor: bytes(stats.floor_bytes) }),
        ],
        [t("log.syncs"), number(told.log.syncs)],
        [t("log.frames"), number(told.log.frames)],
        [t("log.failures"), number(told.log.failures)],
        [t("log.sync"), told.log.sync_policy],
        [t("log.refuses"), stats.refuses && badge("bad", stats.refuses)],
      ]),
    );
    segments.update(told.log.segments.slice(-SEGMENTS));
  });

  /** A reason why readings were not taken, with the last ones as examples; what is unfolded stays so. */
  function reason({ reason: name, label }) {
    const head = h("summary");
    const body = h("div", { class: "page" });
    const element = h("details", { "data-reason": name }, head, body);
    element.update = ({ count, examples }) => {
      text(
        head,
        t("reject.count", {
          what: fields.reject(name) ?? label?.en,
          n: number(count),
        }),
      );
      list(
        body,
        examples,
        (one) => `${one.lsn}/${one.reading ?? ""}/${one.at_ms}`,
        (one) =>
          h(
            "div",
            null,
            h(
              "p",
              null,
              time(one.at_ms),
              " · ",
              one.station
                ? h("a", { href: `#/stations/${encodeURIComponent(one.station)}` }, one.station)
                : t("unknown"),
              ` · lsn ${one.lsn}`,
              one.reading === null ? "" : ` · ${t("reject.reading", { n: one.reading })}`,
              ` · ${bytes(one.bytes)}`,
            ),
            h("code", null, one.topic),
            hexdump(one.payload_hex),
          ),
      );
    };
    return element;
  }
}

function full({ bytes: used, bound_bytes: bound }) {
  if (!bound) return "off";
  return used / bound > 0.9 ? "bad" : used / bound > 0.6 ? "warn" : "good";
}

/** What came in, and what became of it: both sides are equal, or something is amiss. */
function equation(books, counts) {
  const parts = ["accepted", "duplicate", "rejected", "shed", "undecided"];
  return [
    scroll(
      t("books"),
      h(
        "table",
        null,
        h(
          "tbody",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "row" }, t("received")),
            h("td", { class: "n" }, number(books.received)),
          ),
          parts.map((name, at) =>
            h(
              "tr",
              null,
              h("th", { scope: "row" }, `${at === 0 ? "=" : "+"} ${t(name)}`),
              h("td", { class: "n" }, number(books[name])),
            ),
          ),
          h(
            "tr",
            null,
            h("th", { scope: "row" }, t("residue")),
            h("td", { class: "n" }, badge(books.residue === 0 ? "good" : "bad", number(books.residue))),
          ),
        ),
      ),
    ),
    facts(Object.entries(counts ?? {}).map(([name, n]) => [word("counts", name), number(n)])),
  ];
}
