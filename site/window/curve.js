// Accuracy over tokens, with its intervals; the current window is marked.

const NAMESPACE = "http://www.w3.org/2000/svg";

function shape(name, attributes = {}, text) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const polygon = (...points) => ([x, y], r) => shape("polygon", { points: points.map(([a, b]) => `${x + a * r},${y + b * r}`).join(" ") });
const MARKERS = {
  shifted: ([x, y], r) => shape("circle", { cx: x, cy: y, r }),
  lead_in: polygon([0, -1.2], [1.15, .9], [-1.15, .9]),
  hard_cut: polygon([0, 1.2], [1.15, -.9], [-1.15, -.9]),
  unlimited: polygon([0, -1.3], [.4, -.4], [1.3, 0], [.4, .4], [0, 1.3], [-.4, .4], [-1.3, 0], [-.4, -.4]),
  no_thinking: polygon([-.9, -.9], [.9, -.9], [.9, .9], [-.9, .9]),
};
const diamond = polygon([0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]);
const marker = way => MARKERS[way] ?? diamond;
const colour = way => `way ${way in MARKERS ? way : "phrase"}`;

export const percent = share => `${(100 * share).toFixed(1)}%`;

// The sign beside a policy's name.
export function swatch(way) {
  const svg = shape("svg", { viewBox: "0 0 26 12", width: 26, height: 12, class: colour(way), "aria-hidden": "true" });
  svg.append(shape("line", { x1: 0, x2: 26, y1: 6, y2: 6 }), marker(way)([13, 6], 4));
  return svg;
}

function scales(width, height, ways, count) {
  const box = { left: 42, right: width - 12, top: 14, bottom: height - 40 };
  const seen = ways.flatMap(way => way.curve[count]).filter(x => x > 0);
  const [low, high] = [Math.log2(Math.min(...seen)) - .3, Math.log2(Math.max(...seen)) + .3];
  const top = Math.min(Math.ceil(Math.max(...ways.flatMap(way => way.curve.high)) * 10 + .2) / 10, 1);
  return { box, low, high, top, x: value => box.left + (Math.log2(value) - low) / (high - low) * (box.right - box.left), y: share => box.bottom - share / top * (box.bottom - box.top) };
}

function axes({ box, low, high, top, x, y }, title) {
  const group = shape("g", { class: "axes" });
  const step = top > .5 ? .2 : .1;
  for (let share = 0; share <= top + 1e-9; share += step)
    group.append(shape("line", { x1: box.left, x2: box.right, y1: y(share), y2: y(share) }), shape("text", { x: box.left - 7, y: y(share) + 4, "text-anchor": "end" }, `${Math.round(100 * share)}%`));
  for (let power = Math.ceil(low); power <= high; power++)
    group.append(shape("line", { x1: x(2 ** power), x2: x(2 ** power), y1: box.bottom, y2: box.bottom + 5 }), shape("text", { x: x(2 ** power), y: box.bottom + 18, "text-anchor": "middle" }, (2 ** power).toLocaleString("en")));
  group.append(shape("text", { x: (box.left + box.right) / 2, y: box.bottom + 35, "text-anchor": "middle" }, title));
  return group;
}

// A policy that spends nothing has no place on a log axis: it is a line at its height, with its interval as a bar at the edge.
function level(way, { box, y }) {
  const group = shape("g", { class: colour(way.name) }), at = y(way.curve.accuracy[0]);
  group.append(shape("line", { class: "level", x1: box.left, x2: box.right, y1: at, y2: at }), bar(box.left + 4, way.curve, 0, y), marker(way.name)([box.left + 4, at], 4));
  return group;
}

const bar = (x, curve, i, y) => shape("line", { class: "interval", x1: x, x2: x, y1: y(curve.low[i]), y2: y(curve.high[i]) });

function line(way, scale, count, window, first) {
  const { x, y } = scale, { curve } = way, group = shape("g", { class: colour(way.name) });
  const places = curve[count].map((value, i) => [x(value), y(curve.accuracy[i])]);
  if (first && places.length > 1) {
    const edge = side => places.map(([px], i) => `${px},${y(curve[side][i])}`);
    group.append(shape("polygon", { class: "band", points: [...edge("low"), ...edge("high").reverse()].join(" ") }));
  } else places.forEach(([px], i) => group.append(bar(px, curve, i, y)));
  group.append(shape("polyline", { points: places.map(place => place.join()).join(" ") }));
  places.forEach((place, i) => {
    const here = way.windows[i] === window && way.windows.length > 1;
    if (here) group.append(bar(place[0], curve, i, y), shape("circle", { class: "ring", cx: place[0], cy: place[1], r: 10 }));
    group.append(marker(way.name)(place, here ? 5.5 : 4));
  });
  return group;
}

// `ways`: {name, windows, curve}; the first is the one that is looked at. `choose` is told the window of a point that is clicked.
export function drawCurve(svg, ways, count, window, choose) {
  const width = Math.max(svg.clientWidth, 240), height = Math.min(Math.max(width * .72, 230), 340);
  const scale = scales(width, height, ways, count);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = `${height}px`;
  const groups = ways.map((way, i) => way.curve[count][0] > 0 ? line(way, scale, count, window, i === 0) : level(way, scale)).reverse();
  svg.replaceChildren(axes(scale, count === "thinking" ? "average thinking tokens" : "average tokens, hint and answer too"), ...groups);
  svg.onclick = event => {
    const at = event.clientX - svg.getBoundingClientRect().left, { curve, windows } = ways[0];
    if (windows.length < 2) return;
    const far = curve[count].map(value => Math.abs(scale.x(value) - at));
    choose(windows[far.indexOf(Math.min(...far))]);
  };
}
