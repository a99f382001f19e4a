// The parts pages are made of. Each is made once and then brought up to date, so that nothing flickers and
// focus stays where it is.

import { attribute, h, list, replace, text } from "./dom.js";
import { bothClocks, dateTime, time } from "./format.js";
import { t, word } from "./i18n.js";
import { drawSpark, spark } from "./drawings/spark.js";

/** How good a station's state is. */
export const STATION_STATES = { online: "good", offline: "bad", silent: "warn", unknown: "off" };
/** How bad a severity is. */
export const SEVERITIES = { critical: "bad", major: "warn", minor: "off" };
/** How good a quality is. */
export const QUALITIES = { 4: "good", 3: "warn", 2: "bad", 1: "bad" };

/** A word with a state: `good`, `warn`, `bad` or `off`. */
export function badge(state, words) {
  return h("span", { class: "badge", "data-state": state }, words);
}

/** A station's state as a badge. */
export function stationBadge(state) {
  return badge(STATION_STATES[state] ?? "off", word("state", state));
}

/** Pairs of a name and a value. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h(
    "dl",
    { class: "facts" },
    shown.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
  );
}

/** A card with a heading. */
export function card(title, ...children) {
  return h("section", { class: "card" }, h("h2", null, title), children);
}

/** A part of the page that is wider than a phone: it can be scrolled, by keys too. */
export function scroll(name, ...children) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, children);
}

/** A figure with a minute of its history. */
export class Tile {
  #figure = h("span");
  #unit = h("small");
  #note = h("div", { class: "note" });
  #spark = spark();

  constructor(name) {
    this.element = h(
      "section",
      { class: "tile" },
      h("h2", null, name),
      h("div", { class: "figure" }, this.#figure, " ", this.#unit),
      this.#spark,
      this.#note,
    );
  }

  /** Brings it up to date. `values` is the history, oldest first. */
  set({ figure, unit = "", note = "", state = null, values = [] }) {
    text(this.#figure, figure);
    text(this.#unit, unit);
    text(this.#note, note);
    attribute(this.element, "data-state", state);
    drawSpark(this.#spark, values);
  }
}

/**
 * A table. A column is `{name, n, text, href, state, time, node}`: its name; whether it is of numbers; a row's
 * text, and where it leads or how good it is; or a row's moment; or a node of its own, made once for each row.
 */
export class Table {
  #columns;
  #key;
  #body = h("tbody");
  #empty;

  constructor({ caption, columns, key, empty }) {
    this.#columns = columns;
    this.#key = key;
    this.#empty = h("p", { class: "muted", hidden: true }, empty ?? t("empty"));
    const head = columns.map(({ name, n }) => h("th", { scope: "col", class: n ? "n" : null }, name));
    this.element = h(
      "div",
      null,
      scroll(
        caption,
        h(
          "table",
          null,
          h("caption", { class: "unseen" }, caption),
          h("thead", null, h("tr", null, head)),
          this.#body,
        ),
      ),
      this.#empty,
    );
  }

  /** Shows these rows. */
  update(rows) {
    list(
      this.#body,
      rows,
      this.#key,
      () => this.#make(),
      (line, row) => this.#fill(line, row),
    );
    attribute(this.#empty, "hidden", rows.length > 0);
  }

  #make() {
    return h(
      "tr",
      null,
      this.#columns.map(({ n }) => h("td", { class: n ? "n" : null })),
    );
  }

  #fill(line, row) {
    this.#columns.forEach((column, at) => fillCell(line.children[at], column, row));
  }
}

function fillCell(cell, column, row) {
  if (column.node) {
    if (cell.firstChild === null) replace(cell, column.node(row));
    return;
  }
  if (column.time) {
    const ms = column.time(row);
    if (cell.dataset.ms === String(ms)) return;
    cell.dataset.ms = String(ms);
    replace(cell, ms === null || ms === undefined ? null : time(ms));
    return;
  }
  const words = column.text(row);
  if (column.href) {
    if (cell.firstChild === null) cell.append(h("a"));
    attribute(cell.firstChild, "href", column.href(row));
    text(cell.firstChild, words);
  } else if (column.state) {
    if (cell.firstChild === null) cell.append(badge(null, ""));
    attribute(cell.firstChild, "data-state", column.state(row));
    text(cell.firstChild, words);
  } else {
    text(cell, words);
  }
}

/** A choice among a few, as buttons of which one is pressed. */
export class Choice {
  #buttons;

  constructor(name, options, chosen) {
    this.#buttons = new Map(
      options.map(({ value, words }) => [
        value,
        h("button", { type: "button", "aria-pressed": "false", on: { click: () => chosen(value) } }, words),
      ]),
    );
    this.element = h("div", { class: "buttons", role: "group", "aria-label": name }, [
      ...this.#buttons.values(),
    ]);
  }

  /** Presses one; none where there is no such. */
  press(value) {
    for (const [one, button] of this.#buttons) attribute(button, "aria-pressed", String(one === value));
  }
}

/** A field to choose or to type in, with its label. */
export function labelled(name, control) {
  return h("label", { class: "field" }, name, control);
}

/** A list to choose from; the first entry means all. */
export function select(options, value, changed) {
  const element = h(
    "select",
    { on: { change: () => changed(element.value) } },
    options.map((option) =>
      h("option", { value: option.value, selected: option.value === value }, option.words),
    ),
  );
  return element;
}

/** Asks whether something is meant, with a text to enter if `field` is given; resolves to it, true, or null. */
export function confirm(title, explanation, { go, danger = false, field = null }) {
  const input = field && h("input", { type: "text", value: field.value ?? "", "aria-label": field.name });
  const yes = h("button", { class: danger ? "danger" : "primary" }, go);
  const no = h("button", { type: "button" }, t("cancel"));
  const form = h(
    "form",
    null,
    h("h2", null, title),
    h("p", null, explanation),
    field && labelled(field.name, input),
    h("div", { class: "buttons" }, yes, no),
  );
  const dialog = h("dialog", { "aria-label": title }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    const end = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    no.addEventListener("click", () => end(null));
    dialog.addEventListener("cancel", () => end(null));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      end(field ? input.value.trim() : true);
    });
  });
}

/** Does something and tells how it went, in `where`. Whatever the service says is shown. */
export async function attempt(where, done, act) {
  try {
    const answer = await act();
    replace(
      where,
      h("div", { class: "notice", role: "status" }, typeof done === "function" ? done(answer) : done),
    );
    return answer;
  } catch (error) {
    replace(where, h("div", { class: "notice bad", role: "alert" }, error.message));
    return null;
  }
}

/** A moment in both clocks, as two lines. */
export function clocks(ms) {
  if (ms === null || ms === undefined) return h("span", { class: "muted" }, t("unknown"));
  const viewer = dateTime(ms, "viewer");
  const city = dateTime(ms, "city");
  const two =
    viewer === city
      ? [viewer]
      : [viewer, h("br"), h("span", { class: "muted" }, `${city} ${t("zone.city")}`)];
  return h("time", { datetime: new Date(ms).toISOString(), title: bothClocks(ms) }, two);
}
