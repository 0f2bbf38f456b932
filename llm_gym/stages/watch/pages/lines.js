// What a flight is made of, as lines over time, one picture below the other under the film.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, EDGE] = [1000, 100, 6];

export class Lines {
  #flight;
  #moments;
  #cursors = [];
  #tellers = [];

  /** `kinds`: {name, tall, say, lines: [{column, name, style}]}; `moments` is the width of all pictures. */
  constructor(element, flight, kinds, moments) {
    this.#flight = flight;
    this.#moments = moments;
    element.replaceChildren(...kinds.map((kind) => this.#figure(kind)));
  }

  at(moment) {
    const x = this.#x(moment);
    for (const cursor of this.#cursors) for (const name of ["x1", "x2"]) cursor.setAttribute(name, x);
    for (const tell of this.#tellers) tell(moment);
  }

  #x = (moment) => ((WIDTH * moment) / Math.max(1, this.#moments - 1)).toFixed(1);

  #figure(kind) {
    const [figure, caption, name, value] = ["figure", "figcaption", "span", "b"].map((tag) => document.createElement(tag));
    figure.classList.toggle("tall", Boolean(kind.tall));
    name.textContent = kind.name;
    if (kind.lines.length > 1)
      for (const line of kind.lines) {
        const key = document.createElement("i");
        key.className = line.style;
        key.textContent = line.name;
        name.append(key);
      }
    caption.append(name, value);
    figure.append(caption, this.#picture(kind));
    this.#tellers.push((moment) => {
      value.textContent = kind.lines.map(({ column }) => this.#at(column, moment)).filter((x) => x !== null).map(kind.say).join(" · ");
    });
    return figure;
  }

  /** A column of the flight, or a number that stays the same. */
  #at = (column, moment) => (typeof column === "number" ? column : (this.#flight.columns[column][moment] ?? null));

  #picture(kind) {
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    const count = this.#flight.columns.altitude_m.length;
    const rows = kind.lines.map(({ column }) => Array.from({ length: count }, (_, moment) => this.#at(column, moment)));
    const numbers = rows.flat().filter((x) => x !== null);
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    svg.setAttribute("aria-label", `${kind.name}: from ${kind.say(low)} to ${kind.say(high)}`);
    const y = (x) => (HEIGHT - EDGE - ((HEIGHT - 2 * EDGE) * (x - low)) / (high - low || 1)).toFixed(1);
    rows.forEach((row, index) => {
      const points = row.flatMap((x, moment) => (x === null ? [] : [`${this.#x(moment)},${y(x)}`]));
      svg.append(make("polyline", { class: kind.lines[index].style, points: points.join(" ") }));
    });
    this.#cursors.push(svg.appendChild(make("line", { class: "cursor", y1: 0, y2: HEIGHT })));
    return svg;
  }
}

function make(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
