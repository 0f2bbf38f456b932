// The film of a flight: seen from the side, from its beginning at the left to its end at the right.

const SVG = "http://www.w3.org/2000/svg";
const GROUND = 12; // pixels at the lower edge
const SMALLEST_SPAN = 50; // metres from the target to an edge

// The aeroplane, nose to the right, in pixels from its centre of gravity; y upward.
const PLANE = [
  ["red", [[-24, 4.5], [-33, 17], [-39, 17], [-37, 2]]],
  ["glass", [[13, 7], [8, 12], [2, 13.5], [-4, 13], [-12, 7]]],
  ["body", [[31, 1], [30, 4], [24, 6], [14, 7], [-8, 7], [-34, 4], [-36, 2], [-34, 0], [-10, -6], [10, -7], [24, -5], [30, -2]]],
  ["red", [[30, 1.5], [-35, 2.5], [-35, 1.2], [30, -0.5]]],
  ["wing", [[10, -5], [4, -3], [-10, -4], [-13, -6], [6, -7]]],
  ["red", [[31, 3.5], [36, 1], [31, -1.5]]],
];

/** The picture of one flight; `at` moves the aeroplane to a moment. */
export class Scene {
  #flight;
  #parts = {};
  #moments;
  #width; // pixels of the element: what must not be stretched is drawn in them

  constructor(element, flight, moments) {
    this.#flight = flight;
    this.#moments = moments;
    this.#width = element.clientWidth;
    const height = element.clientHeight;
    const svg = make("svg", { viewBox: `0 0 ${this.#width} ${height}`, role: "img" });
    svg.setAttribute("aria-label", `The flight from the side; the target is at ${flight.target_altitude_m.toFixed(0)} metres.`);
    const heights = flight.columns.altitude_m.filter((x) => x !== null);
    const far = heights.reduce((most, x) => Math.max(most, Math.abs(x - flight.target_altitude_m)), 0);
    const span = Math.max(SMALLEST_SPAN, 1.35 * far);
    const middle = (height - GROUND) / 2;
    this.y = (altitude) => middle - ((altitude - flight.target_altitude_m) / span) * middle;
    svg.append(
      make("rect", { class: "ground", y: height - GROUND, width: this.#width, height: GROUND }),
      make("line", { class: "target", x1: 0, x2: this.#width, y1: middle, y2: middle }),
      label(`target ${flight.target_altitude_m.toFixed(0)} m`, this.#width - 8, middle - 6, "label"),
      make("polyline", { class: "ahead", points: this.#points(heights.length - 1) }),
    );
    this.#parts.flown = svg.appendChild(make("polyline", { class: "flown" }));
    this.#parts.cursor = svg.appendChild(make("line", { class: "cursor", y1: 0, y2: height - GROUND }));
    if (flight.cause !== null) {
      const last = heights.length - 1;
      svg.append(make("circle", { class: "end", cx: this.x(last), cy: this.y(heights[last]), r: 5 }));
    }
    this.#parts.plane = svg.appendChild(make("g", { class: "plane" }));
    for (const [name, points] of PLANE)
      this.#parts.plane.append(make("polygon", { class: name, points: points.map(([px, py]) => `${px},${-py}`).join(" ") }));
    element.replaceChildren(svg);
  }

  x(moment) {
    return (this.#width * moment) / Math.max(1, this.#moments - 1);
  }

  at(moment) {
    const { altitude_m, pitch_deg } = this.#flight.columns;
    const [x, y] = [this.x(moment), this.y(altitude_m[moment])];
    this.#parts.flown.setAttribute("points", this.#points(moment));
    this.#parts.cursor.setAttribute("x1", x);
    this.#parts.cursor.setAttribute("x2", x);
    const inside = Math.min(Math.max(x, 38), this.#width - 38);
    this.#parts.plane.setAttribute("transform", `translate(${inside.toFixed(1)} ${y.toFixed(1)}) scale(0.9) rotate(${(-pitch_deg[moment]).toFixed(1)})`);
  }

  #points(until) {
    return this.#flight.columns.altitude_m
      .slice(0, until + 1)
      .map((altitude, moment) => `${this.x(moment).toFixed(1)},${this.y(altitude).toFixed(1)}`)
      .join(" ");
  }
}

function label(words, x, y, name) {
  const text = make("text", { class: name, x, y, "text-anchor": "end" });
  text.textContent = words;
  return text;
}

function make(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
