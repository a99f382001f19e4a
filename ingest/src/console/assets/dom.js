// Elements, made and changed. Whatever comes from the API goes in as text: nothing here parses HTML, and
// the page's policy (trusted types) refuses whoever tries.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on` holds listeners; a property that is null or false is left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else {
      attribute(element, name, value);
    }
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Sets an attribute if it is another one than before; null and false take it away. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** Sets a text if it is another one than before: what does not change is not drawn again. */
export function text(element, value) {
  const wanted = value === null || value === undefined ? "" : String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Puts children in the place of those that are there. */
export function replace(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
}

const lists = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. A child stays the same element as long as
 * its key is there, so that focus and selection survive. `make` makes one, `update` brings it up to date.
 */
export function list(parent, items, keyOf, make, update) {
  const old = lists.get(parent) ?? new Map();
  const now = new Map();
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const child = old.get(key) ?? make(item);
    now.set(key, child);
    update?.(child, item);
    if (child === at) {
      at = at.nextSibling;
    } else {
      parent.insertBefore(child, at);
    }
  }
  for (const [key, child] of old) {
    if (now.get(key) !== child) child.remove();
  }
  lists.set(parent, now);
}

let ids = 0;

/** An id that no other element of this page has. */
export function uniqueId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}
