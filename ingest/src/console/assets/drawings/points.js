// What a chart draws out of readings: pieces of line between gaps, and few enough points for the screen.

/**
 * Cuts points `{at, value, quality}`, in the order of time, where more than `longest` milliseconds passed
 * between two of them. Gives the pieces and the gaps between them.
 */
export function cut(points, longest) {
  const pieces = [];
  const gaps = [];
  let piece = [];
  for (const point of points) {
    const before = piece[piece.length - 1];
    if (before && point.at - before.at > longest) {
      pieces.push(piece);
      gaps.push({ from: before.at, to: point.at });
      piece = [];
    }
    piece.push(point);
  }
  if (piece.length > 0) pieces.push(piece);
  return { pieces, gaps };
}

/** The usual time between two points: their median. Null where there are fewer than two pauses. */
export function usual(points) {
  if (points.length < 3) return null;
  const pauses = points
    .slice(1)
    .map((point, at) => point.at - points[at].at)
    .sort((a, b) => a - b);
  return pauses[Math.floor(pauses.length / 2)];
}

/**
 * Thins points out to what `buckets` columns of the screen can show: of each column the first, the least, the
 * greatest and the last. No peak is lost.
 */
export function thin(points, from, to, buckets) {
  if (points.length <= buckets * 4) return points;
  const kept = [];
  let column = [];
  let current = -1;
  const flush = () => {
    if (column.length === 0) return;
    const least = column.reduce((a, b) => (b.value < a.value ? b : a));
    const greatest = column.reduce((a, b) => (b.value > a.value ? b : a));
    const ends = new Set([column[0], least, greatest, column[column.length - 1]]);
    kept.push(...[...ends].sort((a, b) => a.at - b.at));
    column = [];
  };
  for (const point of points) {
    const bucket = Math.floor(((point.at - from) / (to - from)) * buckets);
    if (bucket !== current) flush();
    current = bucket;
    column.push(point);
  }
  flush();
  return kept;
}

/** The index of the point nearest to a moment; -1 where there is none. */
export function nearest(points, at) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].at < at) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return points.length > 0 ? 0 : -1;
  if (low === points.length) return low - 1;
  return at - points[low - 1].at <= points[low].at - at ? low - 1 : low;
}
