// The page on which models answer side by side.

import { nodesOf, show } from "./text.js";
import { Refused, Server } from "./transport.js";
import { byId as quantities, column as numbers, has, plain, rangeOf } from "./quantities.js";
import { Column } from "./column.js";

const NEAR_END = 80; // pixels from the end of the conversation: whoever is there goes along with it
const FORGOTTEN = 404; // the server's word for a turn that it does not have

const SCORE = { id: "score", short: "score so far", name: "score, if the answer ended there", of: numbers("score"), say: plain, scale: "high" };
const COLOURS = [quantities.prob, quantities.entropy, quantities.value, SCORE];

const byId = (id) => document.getElementById(id);
const page = document.body.dataset;
const server = new Server();

let table = { models: [], scorer: "", highest: null, begun: 0 };
let turns = []; // {element, columns, done}
let quantity = null; // what tokens are coloured by

// ---------------------------------------------------------------- talking to the server

async function post(path, body) {
  try {
    return await server.post(path, body);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === FORGOTTEN) await open(); // in another window, perhaps
    trouble(error.message);
    return null;
  }
}

async function open() {
  table = await server.post("/api/table", {});
  for (const { element } of turns) element.remove();
  turns = [];
  showModels();
  table.turns.forEach((turn, number) => showTurn(number, turn));
  showColours();
  const last = table.turns.length - 1;
  if (last >= 0 && !table.turns[last].done) await follow(last, table.turns[last].version);
  else ready();
}

async function say() {
  const prompt = byId("prompt").value;
  if (!prompt.trim() || page.state !== "ready") return;
  page.state = "busy";
  const found = await post("/api/say", { prompt });
  if (!found) return ready();
  byId("prompt").value = "";
  await follow(found.turn, -1);
}

/** Shows a turn while it grows. */
async function follow(number, seen) {
  page.state = "writing";
  byId("send").hidden = true;
  byId("stop").hidden = false;
  const { begun } = table;
  for (;;) {
    const turn = await post("/api/turn", { turn: number, seen });
    if (!turn || begun !== table.begun) return;
    showTurn(number, turn);
    seen = turn.version;
    if (turn.done) break;
  }
  announce("All have answered.");
  await paintAll();
  ready();
}

function ready() {
  page.state = "ready";
  byId("send").hidden = false;
  byId("stop").hidden = true;
}

// ---------------------------------------------------------------- showing

function showModels() {
  byId("hello").hidden = false;
  byId("models").replaceChildren(
    ...table.models.map((model) => {
      const item = document.createElement("li");
      const name = document.createElement("b");
      name.append(...nodesOf(model.name));
      const critic = model.critic ? "with a critic beside it: values can be shown" : "no critic beside it: probabilities only";
      item.append(name, "prompts are shown as ", ...nodesOf(model.format), `; ${critic}`);
      return item;
    }),
  );
}

function showTurn(number, data) {
  byId("hello").hidden = true;
  const main = byId("turns");
  const follows = main.scrollHeight - main.scrollTop - main.clientHeight < NEAR_END;
  turns[number] ??= newTurn(data);
  const turn = turns[number];
  turn.done = data.done;
  turn.columns.forEach((column, place) => {
    const note = data.error && place === 0 ? data.error : data.done && !data.answers[place].tokens.length ? "nothing was written" : data.stopped ? "stopped" : "";
    column.show(data.answers[place], { writing: !data.done, note, highest: table.highest });
  });
  paint(turn);
  if (follows) main.scrollTop = main.scrollHeight;
}

function newTurn(data) {
  const element = document.createElement("section");
  element.className = "turn";
  const said = document.createElement("div");
  said.className = "said text";
  said.dir = "auto";
  const columns = table.models.map((model) => new Column(model));
  const grid = document.createElement("div");
  grid.className = "columns";
  grid.style.setProperty("--models", columns.length);
  grid.append(...columns.map((column) => column.element));
  element.append(said, grid);
  byId("turns").append(element);
  show(said, data.prompt);
  byId("turns").scrollTop = byId("turns").scrollHeight;
  return { element, columns, done: false };
}

// ---------------------------------------------------------------- colours

/** Why nothing can be coloured by a quantity; empty if something can. */
function whyNot(each) {
  if (each === SCORE && !table.scorer) return "nobody judges: start with --scorer NAME";
  if (each.id === "value" && !table.models.some((model) => model.critic)) return "no critic beside these models";
  return "";
}

function showColours() {
  const none = new Option("no colour", "", false, quantity === null);
  byId("quantity").replaceChildren(
    none,
    ...COLOURS.map((each) => {
      const why = whyNot(each);
      const option = new Option(why ? `${each.name} (${why})` : each.name, each.id, false, each === quantity);
      option.disabled = why !== "";
      return option;
    }),
  );
  showLegend();
}

async function colourBy(each) {
  quantity = each;
  byId("quantity").value = each?.id ?? "";
  await paintAll();
}

/** Colours all turns; what has no scores yet gets them first. */
async function paintAll() {
  if (quantity === SCORE) {
    for (const [number, turn] of turns.entries()) {
      if (!turn.done) continue;
      for (const [model, column] of turn.columns.entries()) {
        if (column.answer.quantities.score || !column.answer.tokens.length) continue;
        const found = await post("/api/scores", { turn: number, model });
        if (!found) return;
        column.takeScores(found.scores);
      }
    }
  }
  turns.forEach(paint);
  showLegend();
}

function paint(turn) {
  const range = rangeOfAll([turn]);
  for (const column of turn.columns) {
    const there = quantity !== null && has(column.answer, quantity);
    const without = quantity?.id === "value" && !column.model.critic;
    column.paint(there ? quantity : null, range, COLOURS, without ? "no critic beside this model: no values" : "");
  }
}

/** One range for all answers of turns, so that one colour is one number. */
function rangeOfAll(some) {
  if (quantity === null) return null;
  const ranges = some
    .flatMap((turn) => turn.columns)
    .filter((column) => has(column.answer, quantity))
    .map((column) => rangeOf(column.answer, quantity));
  return [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))];
}

function showLegend() {
  const last = turns.at(-1);
  const range = last ? rangeOfAll([last]) : null;
  byId("legend").replaceChildren();
  if (!range || !range.every(Number.isFinite)) return;
  const bar = document.createElement("i");
  bar.className = `bar ${quantity.scale}`;
  const ends = quantity.scale === "low" ? [1, 0] : range;
  const [left, right] = ends.map((x) => {
    const text = document.createElement("span");
    text.textContent = quantity.say(x);
    return text;
  });
  byId("legend").append(left, bar, right);
}

function nextColour() {
  const possible = [null, ...COLOURS.filter((each) => !whyNot(each))];
  return colourBy(possible[(possible.indexOf(quantity) + 1) % possible.length]);
}

// ---------------------------------------------------------------- what people do

function trouble(sentence) {
  byId("trouble").hidden = sentence === null;
  byId("trouble").textContent = sentence ?? "";
}

function announce(sentence) {
  byId("status").textContent = sentence;
}

server.onTrouble = (message) => trouble(message === null ? null : `${message} Trying again …`);

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
});
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say();
});
byId("stop").addEventListener("click", () => post("/api/stop", {}));
byId("reset").addEventListener("click", async () => {
  if (!(await post("/api/reset", {}))) return;
  await open();
  byId("prompt").focus();
});
byId("quantity").addEventListener("change", (event) => colourBy(COLOURS.find((each) => each.id === event.target.value) ?? null));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.key === "Escape" && page.state === "writing") post("/api/stop", {});
  else if (event.key.toLowerCase() === "c" && !event.target.matches("textarea, select")) nextColour();
  else return;
  event.preventDefault();
});

open().catch((error) => {
  if (!(error instanceof Refused)) throw error;
  trouble(error.message);
  page.state = "stopped";
});
byId("prompt").focus();
