// Devices: all that match, page by page.

import { get } from "../api.js";
import { attribute, h, replace, text } from "../dom.js";
import { deviceColumns } from "../device_table.js";
import { fields as askFields } from "../fields.js";
import { number } from "../format.js";
import { t } from "../i18n.js";
import { labelled, select, Table } from "../parts.js";

const PAGE = 100;

export const title = () => t("nav.devices");

export async function show(page) {
  const fields = await askFields();
  const { projects = [] } = await get("api/v1/projects", {}, page.signal).catch(() => ({}));
  const table = new Table({ caption: title(), key: (row) => row.imei, columns: deviceColumns(fields) });
  const total = h("p", { class: "muted", role: "status" });
  const more = h("button", { type: "button", on: { click: () => load(true) } }, t("load.more"));
  let query = page.query;
  let rows = [];
  let next = null;

  const change = (name, value) => {
    query = { ...query, [name]: value };
    if (value === "") delete query[name];
    page.rewrite(query);
    load(false);
  };
  const text_ = (name, hint) =>
    h("input", {
      type: "search",
      value: query[name] ?? "",
      placeholder: hint,
      on: { change: (event) => change(name, event.target.value.trim()) },
    });
  const kinds = fields
    .kinds()
    .filter((kind) => kind !== "station_status")
    .map((kind) => ({ value: kind, words: fields.kind(kind) }));
  const all = { value: "", words: t("all") };
  replace(
    page.root,
    h("div", { class: "bar" }, h("h1", { tabindex: -1 }, title())),
    h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "bar" },
        labelled(t("imei"), text_("q", "860…")),
        labelled(
          t("kind"),
          select([all, ...kinds], query.kind ?? "", (value) => change("kind", value)),
        ),
        labelled(t("station"), text_("station", "bs0001")),
        labelled(
          t("project"),
          select(
            [all, ...projects.map(({ project }) => ({ value: project, words: project }))],
            query.project ?? "",
            (value) => change("project", value),
          ),
        ),
      ),
      total,
      table.element,
      more,
    ),
  );
  await load(false);

  async function load(further) {
    const { q, kind, station, project, area } = query;
    try {
      const answer = await get(
        "api/v1/devices",
        { q, kind, station, project, area, limit: PAGE, after: further ? next : null },
        page.signal,
      );
      rows = further ? [...rows, ...answer.devices] : answer.devices;
      next = answer.next;
      table.update(rows);
      text(total, t("devices.total", { shown: number(rows.length), n: number(answer.total) }));
    } catch (error) {
      rows = [];
      next = null;
      table.update(rows);
      text(total, error.message);
    }
    attribute(more, "hidden", next === null);
  }
}
