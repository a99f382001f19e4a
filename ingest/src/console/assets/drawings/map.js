// The city from above: a point for each station where it stands, coloured by its state, as large as its load.
//
// Longitude and latitude are taken as a plane, longitudes shortened as they are at this latitude: for a city
// that is exact to less than a point's width. There is one stop for the tab key; arrow keys go from station to
// station.

import { attribute, h, replace, s } from "../dom.js";
import { t } from "../i18n.js";

/** The world's width in units of the drawing. */
const WORLD = 1000;
/** Points' radius in pixels: without load, and more with it. */
const LEAST = 4;
const MOST = 16;
/** How far it can be zoomed in. */
const DEEPEST = 24;
/** Pixels a pointer moves before it drags. */
const SLACK = 4;

export class CityMap {
  #svg = s("svg", { class: "map", role: "group", preserveAspectRatio: "xMidYMid meet" });
  #ground = s("g", { "aria-hidden": "true" });
  #points = s("g");
  #names = s("g", { class: "names", "aria-hidden": "true" });
  #places = new Map();
  #world = { x: 0, y: 0, w: WORLD, h: WORLD };
  #box = this.#world;
  #drag = null;
  /** Units of the drawing that are one pixel. */
  #unit = 1;

  /** `link(name)` is where a station leads, `label(name)` says what is known of it, `look(name)` is told who is looked at. */
  constructor({ link, label, look }) {
    this.link = link;
    this.label = label;
    attribute(this.#svg, "aria-label", t("map.label"));
    this.#svg.append(this.#ground, this.#points, this.#names);
    const zoom = (factor) => () => this.#zoom(factor);
    this.element = h(
      "div",
      { class: "card" },
      this.#svg,
      h(
        "div",
        { class: "bar" },
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "button", "aria-label": t("zoom.in"), on: { click: zoom(0.5) } }, "+"),
          h("button", { type: "button", "aria-label": t("zoom.out"), on: { click: zoom(2) } }, "−"),
          h("button", { type: "button", on: { click: () => this.#show(this.#world) } }, t("zoom.all")),
        ),
        legend(),
      ),
    );
    const name = (event) => event.target.closest?.("a")?.dataset.station;
    this.#svg.addEventListener("pointerover", (event) => name(event) && look(name(event)));
    this.#svg.addEventListener("focusin", (event) => {
      if (!name(event)) return;
      this.#rove(name(event));
      look(name(event));
    });
    this.#svg.addEventListener("keydown", (event) => this.#key(event, name(event)));
    this.#svg.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#svg.addEventListener("pointerdown", (event) => this.#down(event));
    this.#svg.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) this.#svg.addEventListener(end, () => this.#release());
    this.#svg.addEventListener("click", (event) => {
      if (this.#dragged) event.preventDefault();
    });
    new ResizeObserver(() => this.#sizes()).observe(this.#svg);
  }

  #dragged = false;

  /** Puts stations where they stand; those without a place are left out. */
  place(stations) {
    const placed = stations.filter((station) => station.lat !== null && station.lon !== null);
    const [south, north] = ends(placed.map((station) => station.lat));
    const [west, east] = ends(placed.map((station) => station.lon));
    const narrow = Math.cos((((south + north) / 2) * Math.PI) / 180);
    const units = WORLD / Math.max((east - west) * narrow, north - south, 0.01);
    const x = (lon) => (lon - west) * narrow * units;
    const y = (lat) => (north - lat) * units;
    const edge = WORLD * 0.05;
    this.#world = { x: -edge, y: -edge, w: x(east) + 2 * edge, h: y(south) + 2 * edge };
    this.#places = new Map(
      placed.map((station) => {
        const circle = s("circle", { cx: x(station.lon), cy: y(station.lat) });
        const link = s(
          "a",
          {
            href: this.link(station.station),
            tabindex: -1,
            "data-station": station.station,
            "aria-label": station.station,
          },
          circle,
        );
        return [station.station, { link, circle, x: x(station.lon), y: y(station.lat), radius: LEAST }];
      }),
    );
    replace(
      this.#points,
      [...this.#places.values()].map(({ link }) => link),
    );
    replace(this.#ground, graticule([south, north], [west, east], x, y, this.#world));
    replace(this.#names, areas(placed, x, y));
    const [first] = this.#places.values();
    if (first) attribute(first.link, "tabindex", 0);
    this.#show(this.#world);
  }

  /** Whether a station has a place. */
  has(name) {
    return this.#places.has(name);
  }

  /** A station's state and load. */
  update(name, state, rate) {
    const place = this.#places.get(name);
    if (place === undefined) return;
    attribute(place.link, "data-station-state", state);
    const radius = radiusOf(rate);
    if (place.radius === radius) return;
    place.radius = radius;
    // Not asked of the drawing: that would lay it out anew for each station.
    attribute(place.circle, "r", radius * this.#unit);
  }

  #show(box) {
    this.#box = box;
    attribute(this.#svg, "viewBox", `${box.x} ${box.y} ${box.w} ${box.h}`);
    attribute(this.#svg, "data-zoomed", box.w < this.#world.w);
    this.#sizes();
  }

  /** Points and letters have the same size on the screen, however far it is zoomed in. */
  #sizes() {
    const { clientWidth, clientHeight } = this.#svg;
    const unit = Math.max(this.#box.w / (clientWidth || WORLD), this.#box.h / (clientHeight || WORLD));
    this.#unit = unit;
    for (const { circle, radius } of this.#places.values()) attribute(circle, "r", radius * unit);
    for (const words of this.#svg.querySelectorAll("text")) attribute(words, "font-size", 12 * unit);
  }

  /** Zooms around a point, else around the middle. */
  #zoom(factor, x = this.#box.x + this.#box.w / 2, y = this.#box.y + this.#box.h / 2) {
    const w = Math.min(this.#world.w, Math.max(this.#world.w / DEEPEST, this.#box.w * factor));
    const real = w / this.#box.w;
    this.#pan({ x: x - (x - this.#box.x) * real, y: y - (y - this.#box.y) * real, w, h: this.#box.h * real });
  }

  /** Shows a part of the world, and nothing beside it. */
  #pan({ x, y, w, h: height }) {
    const within = (at, size, from, all) => Math.min(Math.max(at, from), from + all - size);
    this.#show({
      x: within(x, w, this.#world.x, this.#world.w),
      y: within(y, height, this.#world.y, this.#world.h),
      w,
      h: height,
    });
  }

  #wheel(event) {
    // The wheel alone scrolls the page.
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(
      this.#svg.getScreenCTM().inverse(),
    );
    this.#zoom(event.deltaY > 0 ? 1.25 : 0.8, point.x, point.y);
  }

  #down(event) {
    this.#dragged = false;
    if (event.button === 0)
      this.#drag = { x: event.clientX, y: event.clientY, box: this.#box, id: event.pointerId };
  }

  #move(event) {
    if (this.#drag === null) return;
    const [dx, dy] = [event.clientX - this.#drag.x, event.clientY - this.#drag.y];
    if (!this.#dragged) {
      if (Math.hypot(dx, dy) < SLACK) return;
      this.#dragged = true;
      this.#svg.setPointerCapture(this.#drag.id);
    }
    const { box } = this.#drag;
    this.#pan({ ...box, x: box.x - dx * this.#unit, y: box.y - dy * this.#unit });
  }

  #release() {
    this.#drag = null;
  }

  #rove(name) {
    for (const [other, { link }] of this.#places) attribute(link, "tabindex", other === name ? 0 : -1);
    attribute(this.#places.get(name).link, "aria-label", this.label(name));
  }

  #key(event, name) {
    const zooms = { "+": 0.5, "-": 2 };
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const here = this.#places.get(name);
    if (event.key in zooms) this.#zoom(zooms[event.key], here?.x, here?.y);
    else if (event.key in ways && here) this.#neighbour(here, ways[event.key])?.link.focus();
    else return;
    event.preventDefault();
  }

  /** The station that is nearest in a direction; to stray aside counts double. */
  #neighbour(here, [wx, wy]) {
    let best = null;
    let least = Infinity;
    for (const place of this.#places.values()) {
      const [dx, dy] = [place.x - here.x, place.y - here.y];
      const ahead = dx * wx + dy * wy;
      const aside = Math.abs(dx * wy) + Math.abs(dy * wx);
      if (ahead > 0 && ahead + 2 * aside < least) {
        least = ahead + 2 * aside;
        best = place;
      }
    }
    return best;
  }
}

/** In whole pixels: a load that trembles is not drawn again. */
function radiusOf(rate) {
  return Math.round(Math.min(MOST, LEAST + Math.sqrt(Math.max(0, rate)) * 1.6));
}

function ends(values) {
  if (values.length === 0) return [0, 0.01];
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}

function legend() {
  const states = ["online", "silent", "offline", "unknown"];
  return h(
    "div",
    { class: "legend" },
    states.map((state) =>
      h(
        "span",
        { "data-station-state": state },
        h("span", { class: "swatch", "aria-hidden": "true" }),
        t(`state.${state}`),
      ),
    ),
    h("span", { class: "muted" }, t("map.size")),
  );
}

/** Lines of whole parts of a degree, so that it is seen where this is. */
function graticule([south, north], [west, east], x, y, world) {
  const span = Math.max(north - south, east - west);
  const by = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1].find((one) => span / one <= 8) ?? 5;
  const lines = [];
  for (let at = Math.ceil(west / by); at * by <= east; at += 1) {
    lines.push(
      s("line", { class: "graticule", x1: x(at * by), x2: x(at * by), y1: world.y, y2: world.y + world.h }),
      s("text", { x: x(at * by), y: world.y + world.h, "text-anchor": "middle" }, `${(at * by).toFixed(2)}°`),
    );
  }
  for (let at = Math.ceil(south / by); at * by <= north; at += 1) {
    lines.push(
      s("line", { class: "graticule", x1: world.x, x2: world.x + world.w, y1: y(at * by), y2: y(at * by) }),
      s("text", { x: world.x, y: y(at * by) }, `${(at * by).toFixed(2)}°`),
    );
  }
  return lines;
}

/** Names of areas, each in the middle of its stations. */
function areas(placed, x, y) {
  const by = Map.groupBy(placed, (station) => station.area ?? "");
  return [...by]
    .filter(([name]) => name !== "")
    .map(([name, stations]) => {
      const mean = (pick) => stations.reduce((sum, station) => sum + pick(station), 0) / stations.length;
      return s(
        "text",
        {
          x: x(mean((station) => station.lon)),
          y: y(mean((station) => station.lat)),
          "text-anchor": "middle",
        },
        name,
      );
    });
}
