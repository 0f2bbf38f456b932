// The curves of a run as small pictures, with a mark at the look that is shown.

import { plain } from "./quantities.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, EDGE] = [280, 64, 4];

/**
 * Draws all curves anew.
 *
 * @param {HTMLElement} element where they go.
 * @param {{name: string, steps: number[], values: (number|null)[]}[]} curves
 * @param {number|null} mark the step that is shown.
 */
export function drawCurves(element, curves, mark) {
  element.replaceChildren(...curves.map((curve) => figureOf(curve, mark)));
}

/** The step of a curve that is nearest to a place in a picture: share of its width. */
export function stepAt(curves, share) {
  const steps = curves.flatMap((curve) => curve.steps);
  const [first, last] = rangeOf(steps);
  const there = first + (last - first) * share;
  return steps.reduce((best, step) => (Math.abs(step - there) < Math.abs(best - there) ? step : best));
}

function figureOf(curve, mark) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  const value = document.createElement("b");
  name.textContent = curve.name;
  const shown = at(curve, mark);
  value.textContent = shown === null ? "" : plain(shown);
  caption.append(name, value);
  figure.append(caption, picture(curve, mark));
  return figure;
}

function picture(curve, mark) {
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const [low, high] = rangeOf(curve.values.filter((x) => x !== null));
  svg.setAttribute("aria-label", `${curve.name}: from ${plain(low)} to ${plain(high)}`);
  const [first, last] = rangeOf(curve.steps);
  const x = (step) => (EDGE + ((WIDTH - 2 * EDGE) * (step - first)) / (last - first || 1)).toFixed(1);
  const y = (value) => (HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * (value - low)) / (high - low || 1)).toFixed(1);
  if (mark !== null && mark >= first && mark <= last)
    svg.append(element("line", { class: "mark", x1: x(mark), x2: x(mark), y1: 0, y2: HEIGHT }));
  for (const part of unbroken(curve))
    svg.append(element("polyline", { points: part.map(([step, value]) => `${x(step)},${y(value)}`).join(" ") }));
  return svg;
}

/** Runs of points between gaps. */
function unbroken({ steps, values }) {
  const parts = [[]];
  steps.forEach((step, place) => {
    if (values[place] === null) parts.push([]);
    else parts.at(-1).push([step, values[place]]);
  });
  return parts.filter((part) => part.length);
}

/** The newest value up to a step. */
function at(curve, mark) {
  let found = null;
  curve.steps.forEach((step, place) => {
    if (mark === null || step <= mark) found = curve.values[place] ?? found;
  });
  return found;
}

function rangeOf(numbers) {
  return [numbers.reduce((a, b) => Math.min(a, b), Infinity), numbers.reduce((a, b) => Math.max(a, b), -Infinity)];
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
