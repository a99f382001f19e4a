// What fields, kinds and reasons are called, and in which unit they are: the service's own table.

import { get } from "./api.js";
import { label, t, word } from "./i18n.js";
import { number } from "./format.js";

let asked = null;

/** The table; asked for once. */
export async function fields() {
  asked ??= get("api/v1/fields").then((answer) => new Fields(answer));
  try {
    return await asked;
  } catch (error) {
    asked = null;
    throw error;
  }
}

class Fields {
  #kinds = new Map();
  #answer;

  constructor(answer) {
    this.#answer = answer;
    for (const kind of answer.kinds) {
      this.#kinds.set(kind.kind, {
        ...kind,
        byName: new Map(kind.fields.map((field) => [field.field, field])),
      });
    }
  }

  /** The kinds' names, in the service's order. */
  kinds() {
    return [...this.#kinds.keys()];
  }

  /** A kind's label. */
  kind(kind) {
    return label(this.#kinds.get(kind)?.label, word("kind", kind));
  }

  /** A kind's fields. */
  of(kind) {
    return this.#kinds.get(kind)?.fields ?? [];
  }

  /** A field of a kind, or undefined. */
  field(kind, name) {
    return this.#kinds.get(kind)?.byName.get(name);
  }

  /** A field's label. */
  label(kind, name) {
    return label(this.field(kind, name)?.label, name);
  }

  /** A value as people read it, with its unit where it is a number. */
  value(kind, name, value) {
    const field = this.field(kind, name);
    if (value === null || value === undefined) return t("none");
    if (typeof value === "boolean") return t(value ? "yes" : "no");
    if (typeof value === "number") {
      const text = number(value, 3);
      return field?.unit ? `${text} ${field.unit}` : text;
    }
    if (Array.isArray(value)) return value.map((one) => number(one, 3)).join(", ");
    const known = new Map(field?.words?.map((one) => [one.word, label(one.label)]));
    return String(value)
      .split(",")
      .map((one) => known.get(one) ?? one.replaceAll("_", " "))
      .join(", ");
  }

  /** A quality's label. */
  quality(quality) {
    return label(this.#answer.qualities.find((one) => one.quality === quality)?.label, String(quality));
  }

  /** The label of a reason why a quality is not the best. */
  reason(reason) {
    return label(this.#answer.reasons.find((one) => one.reason === reason)?.label, reason ?? "");
  }

  /** The label of a reason why a reading was not taken. */
  reject(reason) {
    return label(this.#answer.rejects.find((one) => one.reason === reason)?.label, reason);
  }
}
