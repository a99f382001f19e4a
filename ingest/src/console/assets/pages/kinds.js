// Kinds of devices: how many there are, and how they are.

import { get } from "../api.js";
import { h, list, replace } from "../dom.js";
import { fields as askFields } from "../fields.js";
import { number } from "../format.js";
import { t } from "../i18n.js";
import { facts } from "../parts.js";
import { Shares, stateWord } from "../shares.js";

const AGAIN = 5000;

export const title = () => t("nav.kinds");

export async function show(page) {
  const fields = await askFields();
  const cards = h("div", { class: "columns fresh" });
  await page.every(AGAIN, async () => {
    const { kinds } = await get("api/v1/kinds", {}, page.signal);
    if (!cards.isConnected)
      replace(page.root, h("div", { class: "bar" }, h("h1", { tabindex: -1 }, title())), cards);
    kindCards(cards, fields, kinds);
  });
}

const drawn = new WeakMap();

/** A card for each kind, brought up to date; `query` goes on to the kind's page. */
export function kindCards(where, fields, kinds, query = "") {
  const make = ({ kind }) => {
    const shares = new Shares((state) => stateWord(fields, kind, state));
    const rest = h("div");
    const element = h(
      "section",
      { class: "card", "data-kind": kind },
      h("h2", null, h("a", { href: `#/kinds/${kind}${query}` }, fields.kind(kind))),
      shares.element,
      rest,
    );
    drawn.set(element, { shares, rest });
    return element;
  };
  list(
    where,
    kinds,
    ({ kind }) => kind,
    make,
    (element, summary) => {
      const { shares, rest } = drawn.get(element);
      shares.update(summary.states);
      replace(rest, flags(fields, summary));
    },
  );
}

/** How many there are, which of them say something of themselves, and how far they are trusted. */
function flags(fields, { kind, devices, flags: said = {}, quality = {} }) {
  const doubtful = [3, 2, 1].filter((one) => quality[one] > 0);
  return facts([
    [t("devices"), number(devices)],
    ...Object.entries(said).map(([name, n]) => [fields.label(kind, name), number(n)]),
    ...doubtful.map((one) => [fields.quality(one), number(quality[one])]),
  ]);
}
