// The page: its frame, and which of its parts is shown. Addresses are behind the `#`, so the service
// serves one document, whatever is looked at.

import { h, replace, text } from "./dom.js";
import { askCredentialsFrom } from "./api.js";
import { Shell } from "./shell.js";
import { signIn } from "./sign_in.js";
import { live } from "./live.js";
import { speak, t, tag } from "./i18n.js";
import { showZone } from "./format.js";
import * as alarms from "./pages/alarms.js";
import * as city from "./pages/city.js";
import * as device from "./pages/device.js";
import * as devices from "./pages/devices.js";
import * as kind from "./pages/kind.js";
import * as kinds from "./pages/kinds.js";
import * as pipeline from "./pages/pipeline.js";
import * as project from "./pages/project.js";
import * as projects from "./pages/projects.js";
import * as station from "./pages/station.js";

/** What is shown where, and under which entry of the menu it stands. */
const ROUTES = [
  { pattern: /^$/, page: city, menu: "city" },
  { pattern: /^stations\/([^/]+)$/, page: station, menu: "city" },
  { pattern: /^devices$/, page: devices, menu: "devices" },
  { pattern: /^devices\/([^/]+)$/, page: device, menu: "devices" },
  { pattern: /^kinds$/, page: kinds, menu: "kinds" },
  { pattern: /^kinds\/([^/]+)$/, page: kind, menu: "kinds" },
  { pattern: /^projects$/, page: projects, menu: "projects" },
  { pattern: /^projects\/([^/]+)$/, page: project, menu: "projects" },
  { pattern: /^alarms$/, page: alarms, menu: "alarms" },
  { pattern: /^pipeline$/, page: pipeline, menu: "pipeline" },
];

/** What a page is given: a place to draw in, and the means to be told, all of which end with the page. */
class Visit {
  #stale = h("div", { class: "notice bad", role: "alert" });

  constructor(root, argument, query) {
    this.root = root;
    this.argument = argument;
    this.query = query;
    this.leaving = new AbortController();
    this.signal = this.leaving.signal;
  }

  /** Calls `drawer` at the page's pace when something live has changed. */
  draw(drawer) {
    live.draw(drawer, this.signal);
  }

  /** Calls `listener` with what each event of a type tells. */
  on(type, listener) {
    live.addEventListener(type, (event) => listener(event.detail), { signal: this.signal });
  }

  /** Calls `task` now and then every so many milliseconds, one at a time, while the page can be seen. */
  async every(ms, task) {
    await task();
    const next = () => {
      const timer = setTimeout(async () => {
        if (!document.hidden) await this.#again(task);
        if (!this.signal.aborted) next();
      }, ms);
      this.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    };
    if (!this.signal.aborted) next();
  }

  /** Calls a task once more. That it failed is said for as long as it does: nothing freezes silently. */
  async #again(task) {
    try {
      await task();
      this.#stale.remove();
    } catch (error) {
      if (this.signal.aborted) return;
      text(this.#stale, t("page.stale", { why: error.message }));
      if (!this.#stale.isConnected) this.root.prepend(this.#stale);
    }
  }

  /** Writes another query into the address without showing the page anew. */
  rewrite(query) {
    this.query = query;
    const path = location.hash.slice(2).split("?")[0];
    const search = new URLSearchParams(query).toString();
    history.replaceState(null, "", `#/${path}${search ? `?${search}` : ""}`);
  }
}

const shell = new Shell({
  onLanguage(language) {
    speak(language);
    begin();
  },
  onZone(zone) {
    showZone(zone);
    show();
  },
});

let visit = null;

async function show({ focus = false } = {}) {
  visit?.leaving.abort();
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const route = ROUTES.find(({ pattern }) => pattern.test(path));
  const root = h("div", { class: "page" });
  const argument = decoded(route?.pattern.exec(path)[1] ?? "");
  const here = new Visit(root, argument, Object.fromEntries(new URLSearchParams(search)));
  visit = here;
  shell.place(root, route?.menu);
  if (route === undefined) {
    replace(
      root,
      h("h1", { tabindex: -1 }, t("page.none")),
      h("p", null, h("a", { href: "#/" }, t("nav.city"))),
    );
  } else {
    live.focus(route.page.focus?.(argument) ?? {});
    replace(
      root,
      h("h1", { tabindex: -1 }, route.page.title(argument)),
      h("p", { class: "muted" }, t("loading")),
    );
    try {
      await route.page.show(here);
    } catch (error) {
      if (here.signal.aborted) return;
      replace(
        root,
        h("h1", { tabindex: -1 }, route.page.title(argument)),
        h(
          "div",
          { class: "notice bad", role: "alert" },
          h("p", null, t("page.failed", { why: error.message })),
          h("button", { type: "button", on: { click: () => show({ focus: true }) } }, t("retry")),
        ),
      );
    }
  }
  if (here.signal.aborted) return;
  const heading = root.querySelector("h1");
  document.title = `${heading?.textContent ?? ""} · Loushan`;
  root.dataset.shown = "true";
  if (focus) heading?.focus({ preventScroll: true });
}

/** A part of an address; one that is no text of this encoding stands for itself, and names nothing. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Draws everything, in the language that is spoken. */
function begin() {
  document.documentElement.lang = tag();
  shell.build();
  show();
}

askCredentialsFrom(async (error, acting) => {
  const signed = await signIn(error, acting);
  if (signed) shell.who();
  return signed;
});
addEventListener("hashchange", () => {
  scrollTo(0, 0);
  show({ focus: true });
});
begin();
live.start();
