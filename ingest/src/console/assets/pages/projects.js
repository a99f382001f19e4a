// The pilot's projects.

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { number } from "../format.js";
import { t, word } from "../i18n.js";
import { Table } from "../parts.js";

const AGAIN = 3000;
/** How bad it is to have used so much of a quota. */
export const QUOTAS = { none: "off", ok: "good", near: "warn", over: "bad" };

export const title = () => t("nav.projects");

export async function show(page) {
  const table = new Table({
    caption: title(),
    key: (row) => row.project,
    columns: [
      {
        name: t("project"),
        text: (row) => row.project,
        href: (row) => `#/projects/${encodeURIComponent(row.project)}`,
      },
      {
        name: t("stations"),
        n: true,
        text: (row) => t("of.both", { n: number(row.online), all: number(row.stations) }),
      },
      { name: t("devices"), n: true, text: (row) => number(row.devices) },
      { name: t("rate"), n: true, text: (row) => number(row.rate, 1) },
      { name: t("today"), n: true, text: (row) => number(row.today?.readings) },
      { name: t("rejected"), n: true, text: (row) => number(row.rejected) },
      {
        name: t("quota"),
        text: (row) => word("quota", row.quota.state),
        state: (row) => QUOTAS[row.quota.state],
      },
    ],
  });
  await page.every(AGAIN, async () => {
    const { projects } = await get("api/v1/projects", {}, page.signal);
    if (!table.element.isConnected) {
      replace(
        page.root,
        h("div", { class: "bar" }, h("h1", { tabindex: -1 }, title())),
        h("section", { class: "card fresh" }, table.element),
      );
    }
    table.update(projects);
  });
}
