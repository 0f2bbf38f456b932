// An answer token by token: its colours, the critic's line over it, and which token is looked at.

import { nodesOf } from "./text.js";
import { byId as quantities, rangeOf, shade } from "./quantities.js";

const SVG = "http://www.w3.org/2000/svg";
const ROOM = 15; // pixels over a line of text in which the critic's line runs
const WRITING = 1400; // milliseconds that a whole answer takes at most
const A_TOKEN = 32; // milliseconds that a token takes at most

export class Tokens {
  #element;
  #spans = [];
  #answer = null;
  #timer = 0;

  /** Called with the place of a token that is looked at. */
  onLook = () => {};

  constructor(element) {
    this.#element = element;
    // A page that scrolls under a pointer at rest says so, too, but nobody has pointed then.
    element.addEventListener("pointermove", (event) => (event.movementX || event.movementY) && this.#look(event));
    element.addEventListener("click", (event) => this.#look(event));
    element.addEventListener("focusin", (event) => this.#look(event));
    element.addEventListener("keydown", (event) => this.#move(event));
    new ResizeObserver(() => this.#drawValues()).observe(element);
  }

  /** Shows an answer, and resolves when it is written. */
  show(answer, written) {
    this.#answer = answer;
    this.#spans = answer.tokens.map((pieces, place) => spanOf(pieces, place, answer.by_agent[place]));
    this.#element.classList.toggle("valued", "value" in answer.quantities);
    this.#element.replaceChildren(...this.#spans);
    this.#drawValues();
    return this.#write(written);
  }

  /** Colours the tokens by a quantity, over its range in this answer unless another is given; null is none. */
  paint(quantity, range = quantity && rangeOf(this.#answer, quantity)) {
    this.#spans.forEach((span, place) => {
      const x = quantity ? quantity.of(this.#answer, place) : null;
      const t = x === null ? 0 : shade(quantity, range, x);
      span.classList.toggle("down", t < 0);
      span.classList.toggle("up", t > 0);
      span.style.setProperty("--t", `${Math.round(62 * Math.min(1, Math.abs(t)))}%`);
    });
  }

  /** Marks a token as the one that is looked at; with `focus` the keyboard goes there, too. */
  mark(place, focus = false) {
    this.#spans.forEach((span, other) => {
      span.classList.toggle("chosen", other === place);
      span.tabIndex = other === place ? 0 : -1;
    });
    if (focus) this.#spans[place]?.focus();
  }

  #look(event) {
    const span = event.target.closest(".token");
    if (span && !span.classList.contains("chosen")) this.onLook(Number(span.dataset.place));
  }

  #move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const span = event.target.closest(".token");
    if (!span || event.ctrlKey || event.altKey || event.metaKey) return;
    const last = this.#spans.length - 1;
    const to = { Home: 0, End: last }[event.key] ?? (step && Number(span.dataset.place) + step);
    if (to === undefined || to < 0 || to > last) return;
    event.preventDefault();
    this.#spans[to].focus();
  }

  #write(written) {
    clearTimeout(this.#timer);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (written || still || !this.#spans.length) return Promise.resolve();
    for (const span of this.#spans) span.classList.add("unwritten");
    this.#element.classList.add("writing");
    const pause = Math.min(A_TOKEN, WRITING / this.#spans.length);
    const begun = performance.now();
    return new Promise((resolve) => {
      let shown = 0;
      const more = () => {
        const due = Math.ceil((performance.now() - begun) / pause);
        for (; shown < Math.min(due, this.#spans.length); shown++) this.#spans[shown].classList.remove("unwritten");
        if (shown < this.#spans.length) this.#timer = setTimeout(more, pause);
        else {
          this.#element.classList.remove("writing");
          resolve();
        }
      };
      more();
    });
  }

  #drawValues() {
    this.#element.querySelector("svg.values")?.remove();
    if (!this.#answer || !("value" in this.#answer.quantities)) return;
    const [low, high] = rangeOf(this.#answer, quantities.value);
    const frame = this.#element.getBoundingClientRect();
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "values");
    svg.setAttribute("aria-hidden", "true");
    for (const line of this.#linesOfValues(frame, low, high)) {
      const drawn = document.createElementNS(SVG, line.length > 1 ? "polyline" : "circle");
      if (line.length > 1) drawn.setAttribute("points", line.map((point) => point.join(",")).join(" "));
      else for (const [name, x] of [["cx", line[0][0]], ["cy", line[0][1]], ["r", 1.5]]) drawn.setAttribute(name, x);
      svg.append(drawn);
    }
    this.#element.append(svg);
  }

  /** Points of the critic's line, a list for each line of text. */
  #linesOfValues(frame, low, high) {
    const lines = [];
    let top = null;
    this.#spans.forEach((span, place) => {
      const value = quantities.value.of(this.#answer, place);
      const box = span.getClientRects()[0];
      if (value === null || !box || !box.width) return;
      if (top === null || Math.abs(box.top - top) > 6) lines.push([]);
      top = box.top;
      const share = high > low ? (value - low) / (high - low) : 0.5;
      const x = box.left + box.width / 2 - frame.left + this.#element.scrollLeft;
      const y = box.top - 2 - ROOM * share - frame.top + this.#element.scrollTop;
      lines.at(-1).push([x.toFixed(1), y.toFixed(1)]);
    });
    return lines;
  }
}

function spanOf(pieces, place, byAgent) {
  const span = document.createElement("span");
  span.className = byAgent ? "token" : "token world";
  span.dataset.place = place;
  span.tabIndex = place ? -1 : 0;
  span.append(...visible(pieces));
  return span;
}

/** A token's text; ends of lines have a mark, so that they can be pointed at. */
function visible(pieces) {
  const nodes = [];
  for (const [text, spelled] of pieces) {
    if (spelled) nodes.push(...nodesOf([[text, true]]));
    else
      text.split(/(\n)/).forEach((part) => {
        if (part === "\n") nodes.push(sign("↵"));
        if (part) nodes.push(document.createTextNode(part));
      });
  }
  return nodes.length ? nodes : [sign("·")];
}

/** A sign that stands for what has no shape of its own; it is no part of the text. */
export function sign(character) {
  const mark = document.createElement("i");
  mark.className = "sign";
  mark.dataset.sign = character;
  return mark;
}
