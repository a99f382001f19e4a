// A field's values over time. Zoom by dragging, or with + and −; move with the arrow keys; the value under the
// pointer or cursor is told in words. Gaps are shaded, doubtful values are ringed. Whoever cannot see it finds
// the same values in the table below it.

import { attribute, h, replace, s, text, uniqueId } from "../dom.js";
import { dateTime, number, offset, tick } from "../format.js";
import { t } from "../i18n.js";
import { cut, nearest, thin, usual } from "./points.js";
import { linear, timeAxis, valueAxis } from "./scale.js";

const HEIGHT = 240;
const LEFT = 58;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;
/** Times the usual pause after which a pause is a gap: as for the alarm of a silent device. */
const GAP = 2.5;
/** Points up to which each is marked by a dot. */
const DOTS = 120;
/** Rows of the table below the chart. */
const ROWS = 500;

export class Chart {
  #name;
  #show;
  #zoomed;
  #svg = s("svg", { role: "img", tabindex: 0 });
  #value = h("div", { class: "value muted", "aria-live": "polite" });
  #table = h("details", null);
  #points = [];
  #span = { from: 0, to: 1 };
  #at = -1;
  #drag = null;

  /**
   * `name` is what is drawn, `show(value)` gives a value in words, `quality(point)` says what is doubtful in it,
   * `zoomed(from, to)` is told which span is wanted.
   */
  constructor({ name, show, quality, zoomed }) {
    this.#name = name;
    this.#show = (point) =>
      point.quality < 4 ? `${show(point.value)} · ${quality(point)}` : show(point.value);
    this.#zoomed = zoomed;
    const hint = uniqueId("chart");
    attribute(this.#svg, "aria-describedby", hint);
    this.element = h(
      "div",
      { class: "chart" },
      this.#svg,
      this.#value,
      h("span", { class: "unseen", id: hint }, t("chart.keys")),
      this.#table,
    );
    this.#svg.addEventListener("pointerdown", (event) => this.#down(event));
    this.#svg.addEventListener("pointermove", (event) => this.#move(event));
    this.#svg.addEventListener("pointerup", (event) => this.#up(event));
    this.#svg.addEventListener("pointercancel", () => this.#drop());
    this.#svg.addEventListener("pointerleave", () => this.#cursor(-1));
    this.#svg.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#draw()).observe(this.element);
    text(this.#value, t("chart.hint"));
  }

  /** Draws points `{at, value, quality}`, in the order of time, over a span. */
  draw(points, from, to) {
    this.#points = points;
    this.#span = { from, to };
    this.#at = -1;
    this.#draw();
    this.#rows();
  }

  get #width() {
    return Math.max(240, this.element.clientWidth || 600);
  }

  get #x() {
    return linear(this.#span.from, this.#span.to, LEFT, this.#width - RIGHT);
  }

  #draw() {
    const { from, to } = this.#span;
    const width = this.#width;
    const points = this.#points;
    attribute(this.#svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
    attribute(this.#svg, "aria-label", this.#summary());
    const x = this.#x;
    const values = points.map((point) => point.value);
    const axis = valueAxis(least(values, 0), greatest(values, 1));
    const y = linear(axis.low, axis.high, HEIGHT - BOTTOM, TOP);
    this.y = y;
    const times = timeAxis(from, to, Math.max(2, Math.floor(width / 90)), offset(from));
    const pause = usual(points);
    const { pieces, gaps } = cut(points, pause === null ? Infinity : pause * GAP);
    const digits = Math.max(0, -Math.floor(Math.log10(axis.step)));
    const kept = new Set();
    const lines = pieces.map((piece) => {
      const thinned = thin(piece, from, to, width - LEFT - RIGHT);
      for (const point of thinned) kept.add(point);
      return s("path", {
        class: "line",
        d: thinned
          .map((point, at) => `${at === 0 ? "M" : "L"}${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`)
          .join(""),
      });
    });
    // A reading between two gaps has no line: it is there as a dot, however many points there are.
    const alone = new Set(pieces.filter((piece) => piece.length === 1).map(([point]) => point));
    const dots = points.filter((point) => point.quality >= 4 && (points.length <= DOTS || alone.has(point)));
    const doubts = points.filter((point) => point.quality < 4 && kept.has(point));
    replace(
      this.#svg,
      axis.marks.map((value) => [
        s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        s("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, number(value, digits)),
      ]),
      times.marks.map((at) => [
        s("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }),
        s("text", { x: x(at), y: HEIGHT - 8, "text-anchor": "middle" }, tick(at, times.step)),
      ]),
      gaps.map((gap) =>
        s(
          "rect",
          {
            class: "gap",
            x: x(gap.from),
            width: Math.max(0, x(gap.to) - x(gap.from)),
            y: TOP,
            height: HEIGHT - TOP - BOTTOM,
          },
          s("title", null, t("chart.gap")),
        ),
      ),
      lines,
      dots.map((point) => s("circle", { class: "dot", cx: x(point.at), cy: y(point.value), r: 2.5 })),
      doubts.map((point) =>
        s("circle", {
          class: "doubt",
          "data-quality": point.quality,
          cx: x(point.at),
          cy: y(point.value),
          r: 3.5,
        }),
      ),
      points.length === 0
        ? s("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, t("chart.empty"))
        : null,
      s("rect", { class: "chosen", y: TOP, height: HEIGHT - TOP - BOTTOM, width: 0 }),
      s(
        "g",
        { class: "cursor", visibility: "hidden" },
        s("line", { y1: TOP, y2: HEIGHT - BOTTOM }),
        s("circle", { r: 4 }),
      ),
    );
    this.#cursor(this.#at);
  }

  /** The chart in a sentence. */
  #summary() {
    const values = this.#points.map((point) => point.value);
    const { from, to } = this.#span;
    const words = { name: this.#name, n: number(values.length), from: dateTime(from), to: dateTime(to) };
    if (values.length === 0) return t("chart.summary.empty", words);
    return t("chart.summary", { ...words, low: number(least(values), 3), high: number(greatest(values), 3) });
  }

  /** The table, filled when it is opened. */
  #rows() {
    const fill = () => {
      if (!this.#table.open) return;
      const shown = this.#points.slice(-ROWS).reverse();
      const table = h(
        "table",
        null,
        h(
          "thead",
          null,
          h("tr", null, h("th", { scope: "col" }, t("time")), h("th", { scope: "col" }, this.#name)),
        ),
        h(
          "tbody",
          null,
          shown.map((point) =>
            h("tr", null, h("td", null, dateTime(point.at)), h("td", null, this.#show(point))),
          ),
        ),
      );
      const left = this.#points.length - shown.length;
      replace(
        this.#table,
        h("summary", null, t("chart.table")),
        h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": this.#name }, table),
        left > 0 ? h("p", { class: "muted" }, t("chart.more", { n: number(left) })) : null,
      );
    };
    replace(this.#table, h("summary", null, t("chart.table")));
    this.#table.ontoggle = fill;
    fill();
  }

  #cursor(at) {
    this.#at = at;
    const point = this.#points[at];
    const cursor = this.#svg.querySelector(".cursor");
    if (cursor === null) return;
    attribute(cursor, "visibility", point ? "visible" : "hidden");
    if (!point) return;
    const [line, circle] = cursor.children;
    for (const end of ["x1", "x2"]) attribute(line, end, this.#x(point.at));
    attribute(circle, "cx", this.#x(point.at));
    attribute(circle, "cy", this.y(point.value));
    text(this.#value, `${dateTime(point.at)} · ${this.#show(point)}`);
  }

  /** The moment below a pointer. */
  #moment(event) {
    const box = this.#svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * this.#width;
    return linear(
      LEFT,
      this.#width - RIGHT,
      this.#span.from,
      this.#span.to,
    )(Math.min(Math.max(at, LEFT), this.#width - RIGHT));
  }

  #down(event) {
    if (event.button !== 0) return;
    this.#drag = this.#moment(event);
    this.#svg.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const moment = this.#moment(event);
    if (this.#drag !== null) this.#choose(this.#drag, moment);
    this.#cursor(nearest(this.#points, moment));
  }

  #up(event) {
    if (this.#drag === null) return;
    const [from, to] = [this.#drag, this.#moment(event)].sort((a, b) => a - b);
    this.#drop();
    // A click, or a hand that shook.
    if (this.#x(to) - this.#x(from) >= 6 && to - from >= 1000) this.#zoomed(Math.floor(from), Math.ceil(to));
  }

  #drop() {
    this.#drag = null;
    this.#choose(0, 0);
  }

  #choose(a, b) {
    const [from, to] = [a, b].sort((one, other) => one - other);
    const rect = this.#svg.querySelector(".chosen");
    attribute(rect, "x", this.#x(from));
    attribute(rect, "width", from === to ? 0 : this.#x(to) - this.#x(from));
  }

  #key(event) {
    const { from, to } = this.#span;
    const last = this.#points.length - 1;
    const middle = this.#points[this.#at]?.at ?? (from + to) / 2;
    const around = (length) => this.#zoomed(Math.floor(middle - length / 2), Math.ceil(middle + length / 2));
    const keys = {
      ArrowLeft: () => this.#cursor(this.#at < 0 ? last : Math.max(0, this.#at - 1)),
      ArrowRight: () => this.#cursor(Math.min(last, this.#at + 1)),
      Home: () => this.#cursor(0),
      End: () => this.#cursor(last),
      "+": () => around((to - from) / 2),
      "-": () => around((to - from) * 2),
    };
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }
}

function least(values, none = 0) {
  return values.reduce((a, b) => Math.min(a, b), values[0] ?? none);
}

function greatest(values, none = 0) {
  return values.reduce((a, b) => Math.max(a, b), values[0] ?? none);
}
