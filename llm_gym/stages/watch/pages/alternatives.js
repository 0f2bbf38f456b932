// What a model might have written instead: a token and its probability as a bar, before an update and after it.

import { nodesOf } from "./text.js";
import { byId as quantities } from "./quantities.js";
import { sign } from "./tokens.js";

/** A token as the item of a list; `after` is null where there was no update, `isIt` marks the one that was chosen. */
export function bar(pieces, before, after, isIt) {
  const item = document.createElement("li");
  item.classList.toggle("it", isIt);
  const [word, numbers, bars] = ["bdi", "span", "i"].map((tag) => document.createElement(tag));
  word.append(...(pieces.length ? nodesOf(pieces) : [sign("·")]));
  word.className = "word";
  const say = quantities.prob.say;
  numbers.textContent = after === null ? say(before) : `${say(before)} → ${say(after)}`;
  bars.className = after === null ? "bars one" : "bars";
  bars.style.setProperty("--before", `${100 * before}%`);
  bars.style.setProperty("--after", `${100 * (after ?? before)}%`);
  item.append(word, numbers, bars);
  if (isIt) {
    const note = document.createElement("span");
    note.className = "unseen";
    note.textContent = "(chosen)";
    item.append(note);
  }
  return item;
}
