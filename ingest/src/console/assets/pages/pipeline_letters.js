// Dead letters: what was refused for good, shown, taken away, and decided again.

import { post, request, save } from "../api.js";
import { h, replace, text } from "../dom.js";
import { bytes, number, time } from "../format.js";
import { t } from "../i18n.js";
import { attempt, badge, card, confirm, facts } from "../parts.js";
import { hexdump } from "../readings.js";

/** Letters that are shown: the newest. The export has all. */
const SHOWN = 50;
const PATH = "api/v1/dead-letters/export";

export class DeadLetters {
  #fields;
  #about = h("p");
  #told = h("div");
  #letters = h("div", { class: "page" });

  constructor(fields) {
    this.#fields = fields;
    const button = (name, act) => h("button", { type: "button", on: { click: act } }, t(name));
    this.element = card(
      t("letters"),
      this.#about,
      h(
        "div",
        { class: "buttons" },
        button("letters.show", () =>
          attempt(
            this.#told,
            (n) => t("letters.shown", { n: number(Math.min(n, SHOWN)), all: number(n) }),
            () => this.#show(),
          ),
        ),
        button("letters.save", () =>
          attempt(this.#told, t("export.begun"), () => save(PATH, {}, "dead-letters.ndjson")),
        ),
        button("letters.replay", () => this.#replay()),
      ),
      this.#told,
      this.#letters,
    );
  }

  /** How many there are. */
  update({ files, bytes: size, bound_bytes: bound }) {
    text(this.#about, t("letters.about", { files: number(files), bytes: bytes(size), bound: bytes(bound) }));
  }

  /** Shows the newest. They come oldest first, so all pass here, line by line, and few are kept. */
  async #show() {
    const response = await request(PATH);
    const kept = [];
    let count = 0;
    let rest = "";
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + piece).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        count += 1;
        kept.push(line);
        if (kept.length > SHOWN) kept.shift();
      }
    }
    replace(
      this.#letters,
      kept.reverse().map((line) => this.#letter(JSON.parse(line))),
    );
    return count;
  }

  #letter({ payload, received_us: received, truncated, ...letter }) {
    const rest = Object.entries(letter).filter(
      ([name]) => !["lsn", "topic", "reason", "replayed"].includes(name),
    );
    return h(
      "details",
      { class: "letter" },
      h(
        "summary",
        null,
        `${this.#fields.reject(letter.reason)} · lsn ${letter.lsn} `,
        letter.replayed ? badge("good", t("letters.replayed")) : null,
      ),
      h("p", null, time(received / 1000), " · ", h("code", null, letter.topic)),
      facts(rest.map(([name, value]) => [name, String(value)])),
      hexdump(payload, truncated),
    );
  }

  /** First what would become of them; then, if that is wanted, it is done. */
  async #replay() {
    const replay = (dry) => post("api/v1/dead-letters/replay", { query: { dry_run: String(dry) } });
    const said = (done) =>
      t("letters.would", {
        letters: number(done.letters),
        submitted: number(done.submitted),
        rejected: number(done.still_rejected),
        before: number(done.replayed_before),
      });
    const would = await attempt(this.#told, said, () => replay(true));
    if (would === null || would.submitted === 0) return;
    if ((await confirm(t("letters.replay"), said(would), { go: t("letters.replay") })) === null) return;
    await attempt(
      this.#told,
      (done) => t("letters.did", { submitted: number(done.submitted), readings: number(done.readings) }),
      () => replay(false),
    );
  }
}
