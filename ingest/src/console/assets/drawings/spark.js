// A minute of a figure, without axes: its shape.

import { attribute, s } from "../dom.js";

const WIDTH = 120;
const HEIGHT = 30;

/** An empty spark; it is drawing only, so it is hidden from screen readers, whom the figure tells enough. */
export function spark() {
  return s(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "area" }),
    s("path", { class: "line" }),
  );
}

/** Draws values, oldest first, the last one at the right edge; nulls are gaps. At most `points` fit. */
export function drawSpark(svg, values, points = 60) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const low = Math.min(0, ...known);
  const high = Math.max(...known, low + 1e-9);
  const x = (at) => WIDTH - ((values.length - 1 - at) * WIDTH) / (points - 1);
  const y = (value) => HEIGHT - 1 - ((value - low) / (high - low)) * (HEIGHT - 2);
  let line = "";
  let area = "";
  let begin = null;
  values.forEach((value, at) => {
    if (value === null || value === undefined) {
      if (begin !== null) area += `V${HEIGHT}H${begin}Z`;
      begin = null;
      return;
    }
    const point = `${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    line += `${begin === null ? "M" : "L"}${point}`;
    area += `${begin === null ? `M${x(at).toFixed(1)} ${HEIGHT}L` : "L"}${point}`;
    begin ??= x(at).toFixed(1);
  });
  if (begin !== null) area += `V${HEIGHT}H${begin}Z`;
  const [areaPath, linePath] = svg.children;
  attribute(areaPath, "d", area);
  attribute(linePath, "d", line);
}
