// A device: what it is, what it said last, how that came here, and what it said before.

import { get } from "../api.js";
import { History } from "./device_history.js";
import { h, replace, text } from "../dom.js";
import { fields as askFields } from "../fields.js";
import { ago, dateTime, length, number } from "../format.js";
import { t, word } from "../i18n.js";
import { badge, card, clocks, facts, QUALITIES, scroll } from "../parts.js";
import { qualityBadge } from "../readings.js";

/** Milliseconds between two looks when nothing new comes. */
const AGAIN = 15_000;
/** Milliseconds at least between two looks because something came. */
const SOON = 1000;

export const title = (imei) => imei;
/** What the stream tells besides. */
export const focus = (imei) => ({ device: imei });

export async function show(page) {
  const imei = page.argument;
  const path = `api/v1/devices/${encodeURIComponent(imei)}`;
  const [fields, first] = await Promise.all([askFields(), get(path, {}, page.signal)]);
  const { kind } = first.device;
  const age = h("span");
  const quality = h("span");
  const values = h("tbody");
  const journey = h("ol", { class: "journey" });
  const about = h("div");
  const history = new History(page, fields, imei, kind);
  replace(
    page.root,
    h("div", { class: "bar" }, h("h1", { tabindex: -1 }, `${fields.kind(kind)} ${imei}`), quality, age),
    h(
      "div",
      { class: "columns fresh" },
      card(
        t("device.values"),
        scroll(
          t("device.values"),
          h(
            "table",
            null,
            h(
              "thead",
              null,
              h(
                "tr",
                null,
                ["field", "value", "quality"].map((name) => h("th", { scope: "col" }, t(name))),
              ),
            ),
            values,
          ),
        ),
      ),
      card(t("device.about"), about),
    ),
    card(t("journey"), h("p", { class: "muted" }, t("journey.note")), journey),
    history.element,
  );

  let shown = first;
  const look = (told) => {
    shown = told;
    replace(quality, qualityBadge(fields, told.device.quality, told.device.reason));
    replace(
      values,
      told.values.map((one) =>
        h(
          "tr",
          { "data-field": one.field },
          h("th", { scope: "row" }, fields.label(kind, one.field)),
          h("td", null, fields.value(kind, one.field, one.value)),
          h("td", null, badge(QUALITIES[one.quality], fields.quality(one.quality))),
        ),
      ),
    );
    replace(about, aboutDevice(told));
    replace(journey, steps(told.journey));
    tell();
  };
  const tell = () =>
    text(
      age,
      t("device.age", { ago: ago(shown.device.effective_ms), at: dateTime(shown.device.effective_ms) }),
    );
  look(first);
  await history.load();

  let due = null;
  page.on("reading", ({ readings }) => {
    const own = readings.filter((row) => row.imei === imei);
    if (own.length === 0) return;
    history.add(own);
    due ??= setTimeout(async () => {
      due = null;
      look(await get(path, {}, page.signal).catch(() => shown));
    }, SOON);
  });
  page.signal.addEventListener("abort", () => clearTimeout(due));
  page.draw(tell);
  // Awaited, as its first time is now: whoever leaves meanwhile has nobody wait for it.
  await page.every(AGAIN, async () => look(await get(path, {}, page.signal)));
}

function aboutDevice({ device, model, site, as_of_lsn: lsn }) {
  return facts([
    [t("imei"), device.imei],
    [t("model"), model ? `${model.name ?? t("model.unnamed")} (${model.id})` : null],
    [
      t("station"),
      h(
        "a",
        { href: `#/stations/${encodeURIComponent(device.station)}` },
        site?.name ? `${site.name} (${device.station})` : device.station,
      ),
    ],
    [t("area"), device.area],
    [
      t("project"),
      device.project && h("a", { href: `#/projects/${encodeURIComponent(device.project)}` }, device.project),
    ],
    [t("place"), site && `${number(site.lat, 5)}° N, ${number(site.lon, 5)}° E`],
    [t("alarms"), h("a", { href: `#/alarms?device=${device.imei}` }, t("show"))],
    ["lsn", number(lsn)],
  ]);
}

/** The steps of a reading's way, each with how long it took from the one before. */
function steps(journey) {
  let before = null;
  return journey.map((step) => {
    const known = step.at_ms !== null && step.at_ms !== undefined;
    const took = known && before !== null ? step.at_ms - before : null;
    if (known) before = step.at_ms;
    const where =
      step.by ??
      (step.where && word("where", step.where)) ??
      (step.lsn === undefined ? null : `lsn ${step.lsn}`);
    return h(
      "li",
      { "data-step": step.step, "data-known": String(known) },
      h("strong", null, word("step", step.step)),
      where && h("span", { class: "muted" }, where),
      clocks(step.at_ms),
      took !== null &&
        h("span", { class: "muted" }, t("took", { length: took < 0 ? `−${length(-took)}` : length(took) })),
    );
  });
}
