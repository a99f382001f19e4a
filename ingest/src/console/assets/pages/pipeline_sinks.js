// Sinks: how far they are, and orders to them.

import { post } from "../api.js";
import { attribute, h, list, text } from "../dom.js";
import { bytes, length, number } from "../format.js";
import { t, word } from "../i18n.js";
import { attempt, badge, confirm } from "../parts.js";

/** How good a sink's state is. */
const STATES = { running: "good", paused: "warn", failed: "bad", removed: "off" };
const FIGURES = ["stored", "pending", "replayed", "refused", "let_go", "residue"];

export class Sinks {
  #told = h("div");
  #body = h("tbody");

  constructor() {
    const head = ["sink", "state", "lag", "cursor", ...FIGURES, "act"];
    this.element = h(
      "div",
      { class: "page" },
      this.#told,
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": t("sinks") },
        h(
          "table",
          null,
          h(
            "thead",
            null,
            h(
              "tr",
              null,
              head.map((name, at) =>
                h("th", { scope: "col", class: at > 1 && name !== "act" ? "n" : null }, t(name)),
              ),
            ),
          ),
          this.#body,
        ),
      ),
    );
  }

  /** Shows the sinks as they are. */
  update(sinks) {
    list(
      this.#body,
      sinks,
      ({ name }) => name,
      (sink) => this.#make(sink),
      (line, sink) => this.#fill(line, sink),
    );
  }

  #make({ name }) {
    const order = (what) =>
      h(
        "button",
        { type: "button", "data-order": what, on: { click: () => this.#order(name, what) } },
        t(`sink.${what}`),
      );
    return h(
      "tr",
      { "data-sink": name },
      h("th", { scope: "row" }, name),
      h("td", null, badge(null, ""), h("div", { class: "muted" })),
      h("td", { class: "n" }),
      h("td", { class: "n" }),
      FIGURES.map(() => h("td", { class: "n" })),
      h("td", null, h("div", { class: "buttons" }, ["pause", "resume", "rewind"].map(order))),
    );
  }

  #fill(line, sink) {
    const [, state, lag, cursor, ...rest] = line.children;
    attribute(state.firstChild, "data-state", STATES[sink.state] ?? "off");
    text(state.firstChild, word("sink", sink.state));
    text(state.lastChild, [sink.trouble, sink.notice].filter(Boolean).join(" · "));
    text(lag, `${bytes(sink.lag.bytes)} · ${length(sink.lag.seconds * 1000)}`);
    text(cursor, number(sink.cursor));
    FIGURES.forEach((name, at) => text(rest[at], number(sink[name])));
    const [pause, resume, rewind] = line.querySelectorAll("button");
    attribute(pause, "disabled", sink.state === "paused");
    attribute(resume, "disabled", sink.state === "running");
    attribute(rewind, "disabled", sink.state === "removed");
  }

  async #order(name, what) {
    const title = t(`sink.${what}.title`, { name });
    const field = what === "rewind" ? { name: t("sink.rewind.to") } : null;
    const answer = await confirm(title, t(`sink.${what}.note`), {
      go: t(`sink.${what}`),
      danger: what !== "resume",
      field,
    });
    if (answer === null) return;
    const query = what === "rewind" ? { to: answer } : {};
    const said = ({ done }) => t(done ? "sink.done" : "sink.slow", { name });
    await attempt(this.#told, said, () =>
      post(`api/v1/sinks/${encodeURIComponent(name)}/${what}`, { query }),
    );
  }
}
