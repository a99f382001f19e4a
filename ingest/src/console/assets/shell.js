// The frame around every page: menu, search, who is signed in, language, clock, theme, and above all
// whether what is shown is live.

import { authorization, forget, whoami } from "./api.js";
import { attribute, h, replace, text } from "./dom.js";
import { length, timeOfDay, zone } from "./format.js";
import { current, LANGUAGES, t, word } from "./i18n.js";
import { live } from "./live.js";
import { sound, soundIsOn } from "./sound.js";
import { signIn } from "./sign_in.js";

const MENU = {
  city: "#/",
  devices: "#/devices",
  kinds: "#/kinds",
  projects: "#/projects",
  alarms: "#/alarms",
  pipeline: "#/pipeline",
};
const THEME = "loushan.theme";
const THEMES = ["auto", "light", "dark"];
/** Milliseconds for which a critical alarm is shown over the page. */
const SHOWN = 20_000;

export class Shell {
  #actions;
  #main = h("main", { id: "main", tabindex: -1 });
  #links = {};
  #status = h("span", { class: "live-text" });
  #retry = h("button", { type: "button", class: "quiet", hidden: true, on: { click: () => live.retry() } });
  #badge = h(
    "div",
    { class: "live", "data-live": "connecting" },
    h("span", { class: "dot", "aria-hidden": "true" }),
    this.#status,
    this.#retry,
  );
  // Told once when it changes, not each second: a screen reader reads every word that is put here.
  #spoken = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
  #alerts = h("div", { class: "alerts", role: "alert", "aria-live": "assertive" });
  #who = h("div", { class: "who" });
  #count = h("span", { class: "count", hidden: true });

  constructor(actions) {
    this.#actions = actions;
    live.addEventListener("status", () => this.#liveness());
    live.addEventListener("city", () => this.#city());
    live.addEventListener("hello", () => this.#city());
    live.addEventListener("alarm", (event) => this.#alarm(event.detail));
    setInterval(() => this.#words(), 1000);
    theme(localStorage.getItem(THEME) ?? "auto");
  }

  /** Builds the frame, in the language that is spoken. */
  build() {
    replace(
      document.body,
      h(
        "a",
        {
          class: "skip",
          href: "#main",
          on: {
            click: (event) => {
              event.preventDefault();
              this.#main.focus();
            },
          },
        },
        t("skip"),
      ),
      h(
        "header",
        { class: "top" },
        h(
          "a",
          { class: "brand", href: "#/" },
          h("img", { src: "console/icon.svg", alt: "", width: 26, height: 26 }),
          "Loushan",
        ),
        this.#menu(),
        this.#search(),
        this.#badge,
        this.#controls(),
      ),
      this.#spoken,
      this.#alerts,
      this.#main,
      h(
        "footer",
        null,
        h("a", { href: "docs" }, t("footer.api")),
        " · ",
        h("a", { href: "metrics" }, t("footer.metrics")),
      ),
    );
    text(this.#retry, t("live.retry"));
    this.who();
    this.#liveness();
    this.#city();
  }

  /** Puts a page into the frame. */
  place(root, menu) {
    replace(this.#main, root);
    for (const [name, link] of Object.entries(this.#links))
      attribute(link, "aria-current", name === menu ? "page" : null);
  }

  /** Shows who is signed in. */
  async who() {
    const who = await whoami().catch(() => null);
    const out = () => {
      forget();
      location.reload();
    };
    const enter = async () => {
      if (await signIn({ status: 401 }, false)) this.who();
    };
    const name = who?.name ?? null;
    replace(
      this.#who,
      name === null
        ? null
        : h(
            "span",
            { class: "muted" },
            `${name} · ${word("role", who.role)}${who.project ? ` ${who.project}` : ""}`,
          ),
      authorization() === null
        ? h("button", { type: "button", class: "quiet", on: { click: enter } }, t("signin.go"))
        : h("button", { type: "button", class: "quiet", on: { click: out } }, t("signin.out")),
    );
  }

  #menu() {
    for (const [name, href] of Object.entries(MENU)) {
      this.#links[name] = h("a", { href }, t(`nav.${name}`), name === "alarms" ? this.#count : null);
    }
    return h("nav", { "aria-label": t("nav.label") }, Object.values(this.#links));
  }

  #search() {
    const input = h("input", {
      type: "search",
      "aria-label": t("search.label"),
      placeholder: t("search.hint"),
      spellcheck: "false",
    });
    const go = (event) => {
      event.preventDefault();
      const wanted = input.value.trim().toLowerCase();
      if (wanted === "") return;
      if (live.stations.has(wanted)) location.hash = `#/stations/${wanted}`;
      else if (/^\d{15}$/.test(wanted)) location.hash = `#/devices/${wanted}`;
      else location.hash = `#/devices?q=${encodeURIComponent(wanted)}`;
    };
    return h("form", { class: "search", role: "search", on: { submit: go } }, input);
  }

  #controls() {
    const languages = Object.entries(LANGUAGES).map(([value, name]) => ({ value, name, lang: value }));
    const zones = ["viewer", "city"].map((value) => ({ value, name: t(`zone.${value}`) }));
    const themes = THEMES.map((value) => ({ value, name: t(`theme.${value}`) }));
    return h(
      "div",
      { class: "controls" },
      choice(t("language"), languages, current(), this.#actions.onLanguage),
      choice(t("zone.label"), zones, zone(), this.#actions.onZone),
      choice(t("theme.label"), themes, localStorage.getItem(THEME) ?? "auto", theme),
      this.#who,
    );
  }

  #liveness() {
    const { state } = live.status;
    if (this.#badge.dataset.live !== state) {
      this.#badge.dataset.live = state;
      document.documentElement.dataset.live = state;
      text(this.#spoken, t(`live.spoken.${state}`));
    }
    attribute(this.#retry, "hidden", state !== "lost");
    this.#words();
  }

  #words() {
    const { state, retryAt } = live.status;
    const silent = live.heardAt === null ? t("never") : length(Math.max(0, Date.now() - live.heardAt));
    const wait = Math.max(0, Math.ceil(((retryAt ?? 0) - Date.now()) / 1000));
    const values = { time: timeOfDay(live.city?.at_ms), silent, wait };
    text(this.#status, t(`live.${state}`, values));
  }

  #city() {
    const alarms = live.city?.alarms;
    attribute(this.#count, "hidden", !alarms?.unacknowledged);
    if (alarms) {
      text(this.#count, alarms.unacknowledged);
      attribute(this.#count, "title", t("alarms.unacknowledged", { n: alarms.unacknowledged }));
      attribute(this.#count, "data-severity", alarms.critical > 0 ? "critical" : null);
    }
  }

  #alarm({ alarm, change }) {
    if (change !== "raised" || alarm.severity !== "critical") return;
    if (soundIsOn()) sound();
    const notice = h(
      "div",
      { class: "notice critical" },
      h(
        "a",
        { href: "#/alarms" },
        t("alarms.raised", {
          what: word("alarm", alarm.rule),
          where: [alarm.station, alarm.imei].filter(Boolean).join(" · "),
        }),
      ),
      h(
        "button",
        { type: "button", class: "quiet", "aria-label": t("close"), on: { click: () => notice.remove() } },
        "×",
      ),
    );
    this.#alerts.append(notice);
    setTimeout(() => notice.remove(), SHOWN);
  }
}

function choice(label, options, value, chosen) {
  const select = h(
    "select",
    { "aria-label": label, title: label, on: { change: () => chosen(select.value) } },
    options.map((option) =>
      h("option", { value: option.value, lang: option.lang, selected: option.value === value }, option.name),
    ),
  );
  return select;
}

function theme(which) {
  localStorage.setItem(THEME, which);
  if (which === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = which;
}
