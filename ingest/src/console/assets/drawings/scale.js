// Axes: from values to places, and which values are marked.

/** A function from `[low, high]` to `[from, to]`. */
export function linear(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** A step of 1, 2 or 5 times a power of ten, so that about `count` of them cover a span. */
export function step(span, count) {
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const times = raw / power;
  return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

/** Marks of a value axis, and its ends: round numbers around the values. */
export function valueAxis(low, high, count = 5) {
  if (low === high) {
    const around = Math.abs(low) * 0.1 || 1;
    return valueAxis(low - around, high + around, count);
  }
  const by = step(high - low, count);
  const from = Math.floor(low / by + 1e-9) * by;
  const to = Math.ceil(high / by - 1e-9) * by;
  const marks = [];
  for (let at = 0; from + at * by <= to + by / 2; at += 1)
    marks.push(Number((from + at * by).toPrecision(12)));
  return { low: from, high: to, step: by, marks };
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  SECOND,
  2 * SECOND,
  5 * SECOND,
  10 * SECOND,
  30 * SECOND,
  MINUTE,
  2 * MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  7 * DAY,
  14 * DAY,
  28 * DAY,
];

/** Marks of a time axis: round by the clock that is `offset` ahead of UTC. */
export function timeAxis(from, to, count, offset = 0) {
  const by = STEPS.find((one) => (to - from) / one <= count) ?? STEPS[STEPS.length - 1];
  const marks = [];
  for (let at = Math.ceil((from + offset) / by) * by; at <= to + offset; at += by) marks.push(at - offset);
  return { step: by, marks };
}
