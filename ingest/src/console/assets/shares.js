// Shares of states: a bar, and the same in figures.

import { attribute, h, list, s, text } from "./dom.js";
import { number, percent } from "./format.js";
import { t, word } from "./i18n.js";

/** How good a state of a device is; what is not here is neutral. */
const STATES = {
  free: "online",
  occupied: "second",
  on: "online",
  off: "unknown",
  failed: "offline",
  normal: "online",
  alarm: "offline",
  muted: "silent",
  fault: "offline",
  test: "second",
  removed: "silent",
  in_service: "online",
  out_of_service: "silent",
  entrapment: "offline",
  leak: "silent",
  burst: "offline",
  backflow: "offline",
  tamper: "silent",
  low_battery: "silent",
  air_in_pipe: "silent",
  frost: "silent",
};

/** The word for a state of a kind. */
export function stateWord(fields, kind, state) {
  const named =
    { parking: ["state"], smoke: ["state"], water: ["alarms", "valve"], elevator: ["mode"] }[kind] ?? [];
  for (const name of named) {
    const said = fields.value(kind, name, state);
    if (fields.field(kind, name)?.words?.some((one) => one.word === state)) return said;
  }
  return word("device_state", state);
}

export class Shares {
  #words;
  #bar = s("svg", {
    class: "shares",
    viewBox: "0 0 100 10",
    preserveAspectRatio: "none",
    width: "100%",
    "aria-hidden": "true",
  });
  #legend = h("ul", { class: "legend plain" });

  /** `words(state)` is what a state is called. */
  constructor(words) {
    this.#words = words;
    this.element = h("div", { class: "share" }, this.#bar, this.#legend);
  }

  /** Shows how many are in which state. */
  update(states) {
    const entries = Object.entries(states).filter(([, n]) => n > 0);
    const all = entries.reduce((sum, [, n]) => sum + n, 0);
    let x = 0;
    const bars = entries.map(([state, n]) => {
      const bar = { state, n, x, width: (100 * n) / all };
      x += bar.width;
      return bar;
    });
    list(
      this.#bar,
      bars,
      ({ state }) => state,
      ({ state }) => s("rect", { y: 0, height: 10, "data-station-state": STATES[state] ?? "second" }),
      (rect, bar) => {
        attribute(rect, "x", bar.x.toFixed(2));
        attribute(rect, "width", bar.width.toFixed(2));
      },
    );
    list(
      this.#legend,
      entries,
      ([state]) => state,
      ([state]) =>
        h(
          "li",
          { "data-station-state": STATES[state] ?? "second" },
          h("span", { class: "swatch", "aria-hidden": "true" }),
          h("span"),
        ),
      (item, [state, n]) => {
        text(
          item.lastChild,
          t("share", { state: this.#words(state), n: number(n), share: percent(n / all) }),
        );
      },
    );
  }
}
