// What a device said before: charts of its fields over an hour, a day, a week, or what was zoomed into.

import { get, save } from "../api.js";
import { Chart } from "../drawings/chart.js";
import { attribute, h, replace, text } from "../dom.js";
import { dateTime, number } from "../format.js";
import { t } from "../i18n.js";
import { badge, Choice, QUALITIES } from "../parts.js";

const SPANS = { hour: 3_600_000, day: 86_400_000, week: 7 * 86_400_000 };
/** Readings of one answer, and answers that are taken: what is beyond is said, not drawn. */
const PAGE = 10_000;
const PAGES = 3;
/** The fields that are drawn unless others are chosen: what each kind is about. */
const FIRST = {
  parking: ["radar_cm", "temp_c"],
  street_light: ["power_w", "dim_pct"],
  smoke: ["obscuration_db_m", "temp_c"],
  elevator: ["floor", "load_pct"],
  water: ["total_l", "flow_l_h"],
};

export class History {
  #page;
  #fields;
  #imei;
  #kind;
  #rows = [];
  #span = null;
  #chosen;
  #charts = new Map();
  #names;
  #spans;
  #told = h("p", { class: "muted", role: "status" });
  #drawn = h("div", { class: "page" });
  #asked = null;

  constructor(page, fields, imei, kind) {
    this.#page = page;
    this.#fields = fields;
    this.#imei = imei;
    this.#kind = kind;
    this.#names = fields
      .of(kind)
      .filter(({ numeric, type }) => numeric && type !== "int_list")
      .map(({ field }) => field);
    const wanted = (page.query.fields?.split(",") ?? FIRST[kind] ?? []).filter((name) =>
      this.#names.includes(name),
    );
    this.#chosen = new Set(wanted.length > 0 ? wanted : this.#names.slice(0, 1));
    this.#spans = new Choice(
      t("history.span"),
      Object.keys(SPANS).map((value) => ({ value, words: t(`span.${value}`) })),
      (value) => this.#go({ span: value }),
    );
    const move = (name, by) =>
      h(
        "button",
        { type: "button", "aria-label": t(name), title: t(name), on: { click: () => this.#shift(by) } },
        by < 0 ? "◀" : "▶",
      );
    this.element = h(
      "section",
      { class: "card", "aria-label": t("history") },
      h(
        "div",
        { class: "bar" },
        h("h2", null, t("history")),
        this.#spans.element,
        h("div", { class: "buttons" }, move("history.earlier", -1), move("history.later", 1)),
        h("button", { type: "button", on: { click: () => this.#save() } }, t("export.csv")),
      ),
      this.#choice(),
      this.#told,
      this.#drawn,
      h(
        "div",
        { class: "legend" },
        t("chart.marks"),
        [3, 2, 1].map((quality) => badge(QUALITIES[quality], fields.quality(quality))),
      ),
    );
    const { from, to, span } = page.query;
    this.#span = from && to ? { from: Number(from), to: Number(to) } : { name: span in SPANS ? span : "day" };
  }

  /** Asks for the span's readings and draws them. */
  async load() {
    this.#asked?.abort();
    const asked = new AbortController();
    this.#asked = asked;
    const { from, to } = this.#ends();
    this.#spans.press(this.#span.name);
    attribute(this.element, "aria-busy", "true");
    let rows = [];
    let page = null;
    try {
      for (let n = 0; n < PAGES; n += 1) {
        const query = {
          from,
          to,
          kind: this.#kind,
          fields: ["reason", ...this.#names].join(","),
          limit: PAGE,
          order: "newest",
          page,
        };
        const answer = await get(`api/v1/devices/${this.#imei}/history`, query, asked.signal);
        rows = rows.concat(answer.readings);
        page = answer.next_page;
        if (page === null) break;
      }
    } catch (error) {
      if (!asked.signal.aborted) text(this.#told, error.message);
      return;
    } finally {
      if (this.#asked === asked) attribute(this.element, "aria-busy", null);
    }
    this.#rows = rows.reverse();
    const words = { n: number(rows.length), from: dateTime(from), to: dateTime(to) };
    text(this.#told, t(page === null ? "history.told" : "history.cut", words));
    this.#draw();
  }

  /** Takes in readings that came just now, where the span goes on to now. */
  add(rows) {
    if (this.#span.name === undefined) return;
    const last = this.#rows[this.#rows.length - 1]?.effective_ms ?? 0;
    // What came late belongs before others: it is there when the span is asked for again.
    this.#rows.push(...rows.filter((row) => row.kind === this.#kind && row.effective_ms > last));
    this.#draw();
  }

  #ends() {
    if (this.#span.name === undefined) return this.#span;
    const to = Date.now();
    return { from: to - SPANS[this.#span.name], to };
  }

  #go(span) {
    this.#span = span.span ? { name: span.span } : span;
    const { fields } = this.#page.query;
    this.#page.rewrite({ ...span, ...(fields ? { fields } : {}) });
    this.load();
  }

  #shift(by) {
    const { from, to } = this.#ends();
    const length = to - from;
    this.#go({ from: from + (by * length) / 2, to: to + (by * length) / 2 });
  }

  #choice() {
    const box = (name) =>
      h(
        "label",
        null,
        h("input", {
          type: "checkbox",
          checked: this.#chosen.has(name),
          on: {
            change: (event) => {
              if (event.target.checked) this.#chosen.add(name);
              else this.#chosen.delete(name);
              this.#page.rewrite({ ...this.#page.query, fields: [...this.#chosen].join(",") });
              this.#draw();
            },
          },
        }),
        " ",
        this.#fields.label(this.#kind, name),
      );
    return h(
      "details",
      null,
      h("summary", null, t("history.fields")),
      h("div", { class: "legend" }, this.#names.map(box)),
    );
  }

  #draw() {
    const { from, to } = this.#ends();
    for (const name of this.#names) {
      if (!this.#chosen.has(name)) {
        this.#charts.delete(name);
        continue;
      }
      if (!this.#charts.has(name)) this.#charts.set(name, this.#chart(name));
    }
    const shown = this.#names.filter((name) => this.#charts.has(name));
    const elements = shown.map((name) => this.#charts.get(name).element);
    // Charts stay where they are, so that focus does.
    if (
      elements.length !== this.#drawn.children.length ||
      elements.some((one, at) => this.#drawn.children[at] !== one)
    )
      replace(this.#drawn, elements);
    for (const name of shown) {
      const points = this.#rows
        .filter((row) => typeof row[name] === "number")
        .map((row) => ({ at: row.effective_ms, value: row[name], quality: row.quality, reason: row.reason }));
      this.#charts.get(name).chart.draw(points, from, to);
    }
  }

  #chart(name) {
    const label = this.#fields.label(this.#kind, name);
    const unit = this.#fields.field(this.#kind, name)?.unit;
    const chart = new Chart({
      name: unit ? `${label} (${unit})` : label,
      show: (value) => this.#fields.value(this.#kind, name, value),
      quality: ({ quality, reason }) =>
        this.#fields.quality(quality) + (reason ? `: ${this.#fields.reason(reason)}` : ""),
      zoomed: (begin, end) => this.#go({ from: begin, to: Math.min(end, Date.now()) }),
    });
    return {
      chart,
      element: h(
        "div",
        { "data-field": name },
        h("h3", null, unit ? `${label} (${unit})` : label),
        chart.element,
      ),
    };
  }

  #save() {
    const { from, to } = this.#ends();
    save(
      "api/v1/export",
      { kind: this.#kind, device: this.#imei, from: Math.floor(from), to: Math.floor(to), format: "csv" },
      `${this.#imei}.csv`,
    ).catch((error) => text(this.#told, error.message));
  }
}
