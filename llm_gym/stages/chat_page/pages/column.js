// One model's answer: its tokens, their colours, and what can be told of one of them.

import { nodesOf } from "./text.js";
import { bar } from "./alternatives.js";
import { plain } from "./quantities.js";
import { Tokens } from "./tokens.js";

const NONE = { tokens: [], ids: [], by_agent: [], quantities: {}, top: [], score: null };

export class Column {
  #tokens;
  #answer = NONE;
  #parts = {};
  #place = null;
  #colours = [];

  /** `model` is what the server says of it: its name in pieces, and whether it has a critic. */
  constructor(model) {
    this.model = model;
    this.element = part("article", "card column");
    const heading = part("h2", "");
    const name = part("bdi", "");
    name.append(...nodesOf(model.name));
    this.#parts = { score: part("output", ""), answer: part("div", "answer"), note: part("p", "small"), why: part("p", "small"), told: part("div", "told") };
    heading.append(name, this.#parts.score);
    const { answer, note, why, told } = this.#parts;
    answer.dir = "auto";
    answer.setAttribute("role", "group");
    answer.setAttribute("aria-label", `Answer of ${name.textContent}, token by token`);
    told.hidden = true;
    this.element.append(heading, answer, note, why, told);
    this.#tokens = new Tokens(answer);
    this.#tokens.onLook = (place) => this.#lookAt(place);
  }

  get answer() {
    return this.#answer;
  }

  /** Shows the answer as it stands; scores of its tokens that are known stay. */
  show(answer, { writing, note, highest }) {
    const known = this.#answer.quantities.score;
    this.#answer = { ...answer, quantities: { ...answer.quantities, ...(known && { score: known }) } };
    this.element.classList.toggle("writing", writing);
    const { score } = this.#answer;
    this.#parts.score.textContent = score === null ? "" : `score ${plain(score)}${highest === null ? "" : ` of ${plain(highest)}`}`;
    this.#parts.note.textContent = note;
  }

  /** Takes the score of each token, if the answer ended there. */
  takeScores(scores) {
    this.#answer.quantities.score = scores;
  }

  /** Colours the tokens by a quantity (null is none, and `why`) over a range; `colours` are all that can be told. */
  paint(quantity, range, colours, why) {
    this.#colours = colours;
    this.#parts.why.textContent = why;
    const { value, ...others } = this.#answer.quantities;
    const shown = quantity?.id === "value" && value ? { ...others, value } : others; // the line only where it is asked for
    this.#tokens.show({ ...this.#answer, quantities: shown }, true);
    this.#tokens.paint(quantity, range);
    this.#parts.answer.classList.toggle("coloured", quantity !== null);
    if (this.#place !== null) this.#lookAt(this.#place);
  }

  #lookAt(place) {
    if (place >= this.#answer.tokens.length) return;
    this.#place = place;
    this.#tokens.mark(place);
    const told = part("p", "");
    const figures = this.#colours
      .map((each) => [each, each.of(this.#answer, place)])
      .filter(([, x]) => x !== null)
      .map(([each, x]) => `${each.short} ${each.say(x)}`);
    told.textContent = [`Token ${place + 1} of ${this.#answer.tokens.length}`, ...figures].join(" · ");
    const list = part("ul", "alternatives");
    list.append(...this.#alternatives(place));
    this.#parts.told.replaceChildren(told, list);
    this.#parts.told.hidden = false;
  }

  /** The most probable tokens, and the one that was chosen if it is not among them. */
  #alternatives(place) {
    const { ids, tokens, top, quantities } = this.#answer;
    const items = top[place].map(([pieces, id, prob]) => bar(pieces, prob, null, id === ids[place]));
    if (!top[place].some(([, id]) => id === ids[place])) items.push(bar(tokens[place], quantities.prob[place], null, true));
    return items;
  }
}

function part(tag, name) {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}
