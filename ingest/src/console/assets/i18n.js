// The page's words. One dictionary for each language; a test holds their keys against each other and
// against what the sources ask for.

import { words as en } from "./i18n/en.js";
import { words as zh } from "./i18n/zh.js";

/** The languages, by the names they give themselves. */
export const LANGUAGES = { en: "English", zh: "中文" };
const WORDS = { en, zh };
const KEY = "loushan.language";

let language = chosen();

/** What was chosen before, else the first of the browser's languages that we speak, else English. */
function chosen() {
  const kept = localStorage.getItem(KEY);
  if (kept in LANGUAGES) return kept;
  const known = navigator.languages
    .map((tag) => tag.slice(0, 2).toLowerCase())
    .find((tag) => tag in LANGUAGES);
  return known ?? "en";
}

/** The language that is spoken: `en` or `zh`. */
export function current() {
  return language;
}

/** Speaks another one from now on, and remembers it. Whoever has drawn words draws them again. */
export function speak(other) {
  language = other;
  localStorage.setItem(KEY, other);
}

/** The tag for `lang` attributes and for the browser's own formats. */
export function tag() {
  return language === "zh" ? "zh-CN" : "en-GB";
}

/** The words for a key, with `{name}` replaced by the values given. */
export function t(key, values = {}) {
  const words = WORDS[language][key] ?? key;
  return words.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The words for one of a closed list, such as `state.online`; what is not in it stands for itself. */
export function word(list, one) {
  if (one === null || one === undefined) return t("none");
  return WORDS[language][`${list}.${one}`] ?? String(one).replaceAll("_", " ");
}

/** The label in our language of something that the API names in several. */
export function label(labels, otherwise = "") {
  return labels?.[language] ?? labels?.en ?? otherwise;
}
