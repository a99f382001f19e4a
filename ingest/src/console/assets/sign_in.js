// The form that asks who it is.

import { forget, keepPassword, keepToken, whoami } from "./api.js";
import { h, replace, uniqueId } from "./dom.js";
import { t } from "./i18n.js";

let open = null;

/**
 * Asks for credentials and tries them; resolves to whether there are good ones now. Whoever asks while the
 * form is open waits for the same answer.
 */
export function signIn(error, acting) {
  open ??= dialog(error, acting).finally(() => {
    open = null;
  });
  return open;
}

function field(name, label, type, autocomplete) {
  const id = uniqueId(name);
  const input = h("input", { id, name, type, autocomplete, spellcheck: "false", autocapitalize: "none" });
  return [input, h("div", { class: "field" }, h("label", { for: id }, label), input)];
}

function dialog(error, acting) {
  const [token, tokenField] = field("token", t("signin.token"), "password", "off");
  const [name, nameField] = field("name", t("signin.name"), "text", "username");
  const [password, passwordField] = field("password", t("signin.password"), "password", "current-password");
  const said = h("p", { role: "alert" });
  const cancel = h("button", { type: "button" }, t("cancel"));
  const heading = uniqueId("signin");
  const form = h(
    "form",
    { novalidate: true },
    h("h2", { id: heading }, t("signin.title")),
    h("p", null, t(acting ? (error.status === 403 ? "signin.admin" : "signin.acting") : "signin.needed")),
    tokenField,
    h("p", { class: "muted" }, t("signin.or")),
    nameField,
    passwordField,
    said,
    h("div", { class: "buttons" }, h("button", { class: "primary" }, t("signin.go")), cancel),
  );
  const element = h("dialog", { class: "signin", "aria-labelledby": heading }, form);
  document.body.append(element);
  element.showModal();
  token.focus();
  return new Promise((resolve) => {
    const end = (signed) => {
      element.close();
      element.remove();
      resolve(signed);
    };
    cancel.addEventListener("click", () => end(false));
    element.addEventListener("cancel", () => end(false));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (token.value !== "") keepToken(token.value.trim());
      else keepPassword(name.value, password.value);
      try {
        const who = await whoami();
        if (acting && !who.admin) {
          replace(said, t("signin.admin"));
          return;
        }
        end(true);
      } catch (failed) {
        forget();
        replace(said, failed.status === 401 ? t("signin.refused") : failed.message);
      }
    });
  });
}
