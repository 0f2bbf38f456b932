// The page on which a run is watched: curves, looks one after the other, and one answer of a look.

import { nodesOf, show } from "./text.js";
import { stepAt } from "./chart.js";
import { bar } from "./alternatives.js";
import { byId, follow, go, look, page, run, say, showStep, step } from "./followed.js";
import { findings } from "./findings.js";
import { byId as quantities, has, plain, QUANTITIES, rangeOf, whyNot } from "./quantities.js";
import { sign, Tokens } from "./tokens.js";

const A_FRAME = 900; // ms that the film rests on an answer when it is written

const tokens = new Tokens(byId("answer"));

let answer = null;
let chosen = { kind: "probe", number: 0 }; // which answer; it stays from look to look
let wanted = quantities.change; // the colour that was asked for
let quantity = wanted; // and the one that this answer has
let place = null; // the token that is looked at
let playing = 0;

// ---------------------------------------------------------------- which look

const nearest = (step) =>
  run.looks.reduce((best, each) => (Math.abs(each - step) < Math.abs(best - step) ? each : best), run.looks[0]);

/** The look at the iteration that ended at a step of the curves, or the last one before it. */
const before = (step) => run.looks.filter((each) => each < step).at(-1) ?? run.looks[0];

// ---------------------------------------------------------------- a look

async function showLook() {
  answer = look.answers.find((each) => each.kind === chosen.kind && each.number === chosen.number) ?? look.answers[0];
  showStep();
  showTabs();
  if (!answer) {
    page.state = "ready";
    return;
  }
  chosen = { kind: answer.kind, number: answer.number };
  await showAnswer();
}

function showTabs() {
  byId("tabs").replaceChildren(
    ...look.answers.map((each, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = each.kind === "probe" ? `Prompt ${each.number + 1}` : `Sample ${each.number + 1}`;
      button.title = each.kind === "probe" ? "the most probable answer, asked at every look" : "an answer that was learnt from";
      button.setAttribute("aria-pressed", each === answer);
      if (index < 9) button.setAttribute("aria-keyshortcuts", index + 1);
      button.addEventListener("click", () => choose(index));
      return button;
    }),
  );
}

function choose(index) {
  const picked = look?.answers[index];
  if (!picked) return;
  chosen = { kind: picked.kind, number: picked.number };
  showLook();
}

async function showAnswer() {
  const shown = answer;
  show(byId("prompt"), answer.prompt);
  place = Math.min(place ?? 0, answer.tokens.length - 1);
  quantity = has(answer, wanted) ? wanted : (QUANTITIES.find((each) => has(answer, each)) ?? wanted);
  showNote();
  const written = tokens.show(answer, false);
  page.state = "writing";
  paint();
  showFindings();
  lookAt(place);
  await written;
  if (answer !== shown) return;
  page.state = "ready";
  say(byId("when").textContent);
}

function showNote() {
  const notes = [];
  if (answer.kind === "probe") notes.push("The most probable answer to a prompt that is asked at every look; nothing is learnt from it, and nobody scored it.");
  else notes.push(answer.score === null ? "Learnt from; without a score." : `Learnt from; score ${plain(answer.score)}.`);
  if (!answer.begins) notes.push("It began in the rollout before.");
  if (!answer.by_agent.every(Boolean)) notes.push("Underlined words are the world's.");
  const line = has(answer, quantities.value)
    ? `The line over the text is the critic's value, from ${rangeOf(answer, quantities.value).map(plain).join(" to ")}.`
    : `No line over the text: ${whyNot(look, answer, quantities.value)}.`;
  byId("note").textContent = [...notes, line].join(" ");
}

// ---------------------------------------------------------------- colours

function paint() {
  tokens.paint(quantity);
  const select = byId("quantity");
  select.replaceChildren(
    ...QUANTITIES.map((each) => {
      const option = new Option(each.name, each.id, false, each === quantity);
      if (!has(answer, each)) {
        option.disabled = true;
        option.textContent += ` (${whyNot(look, answer, each)})`;
      }
      return option;
    }),
  );
  showLegend();
}

function showLegend() {
  const [low, high] = rangeOf(answer, quantity);
  const bar = document.createElement("i");
  bar.className = `bar ${quantity.scale}`;
  const ends = quantity.scale === "low" ? [1, 0] : [low, high];
  const [left, right] = ends.map((x) => {
    const text = document.createElement("span");
    text.textContent = quantity.say(x);
    return text;
  });
  byId("legend").replaceChildren(left, bar, right);
}

function colourBy(id) {
  if (!answer || !quantities[id] || !has(answer, quantities[id])) return;
  quantity = wanted = quantities[id];
  paint();
}

function nextColour() {
  const there = QUANTITIES.filter((each) => has(answer, each));
  colourBy(there[(there.indexOf(quantity) + 1) % there.length].id);
}

// ---------------------------------------------------------------- one token

function lookAt(which) {
  place = which;
  tokens.mark(which);
  const text = document.createElement("h2");
  text.append("Token ", quoted(which), ` ${which + 1} of ${answer.tokens.length}`);
  byId("detail").replaceChildren(text, ...(answer.by_agent[which] ? details(which) : [worldsWords()]));
}

function worldsWords() {
  const note = document.createElement("p");
  note.className = "small";
  note.textContent = "The world wrote this; nothing is learnt from it.";
  return note;
}

function details(which) {
  const list = document.createElement("table");
  for (const each of QUANTITIES) {
    const x = each.of(answer, which);
    if (x === null) continue;
    const row = list.insertRow();
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = each.short;
    name.title = each.name;
    row.append(name);
    row.insertCell().textContent = each.say(x);
  }
  const heading = document.createElement("h3");
  heading.textContent = "What it might have written";
  const key = document.createElement("p");
  key.className = "small key";
  key.textContent = "Grey when it was sampled, blue after the update; the chosen one is framed.";
  return [heading, key, alternatives(which), list];
}

/** The most probable tokens as bars, before and after the update; the one that was chosen is marked. */
function alternatives(which) {
  const list = document.createElement("ul");
  list.className = "alternatives";
  const ids = answer.top_ids[which].filter((id) => id >= 0);
  ids.forEach((id, rank) => {
    const before = answer.top_prob[which][rank];
    list.append(bar(look.vocabulary[id] ?? [], before, answer.top_prob_after[which][rank], isChosen(which, rank)));
  });
  if (!ids.some((_, rank) => isChosen(which, rank))) {
    const [before, after] = ["prob", "prob_after"].map((id) => quantities[id].of(answer, which));
    list.append(bar(answer.tokens[which], before, after, true));
  }
  return list;
}

const isChosen = (which, rank) => answer.top_ids[which][rank] === answer.ids[which];

/** A token, with the rest of the word that it is a part of. */
function quoted(which) {
  const word = document.createElement("bdi");
  word.className = "word";
  const pieces = answer.tokens[which];
  const token = document.createElement("b");
  token.append(...(pieces.length ? nodesOf(pieces) : [sign("·")]));
  word.append(restOfWord(which, -1), token, restOfWord(which, 1));
  return word;
}

const textOf = (which) => (answer.tokens[which] ?? []).map(([text, spelled]) => (spelled ? " " : text)).join("");

/** What stands before (-1) or behind (1) a token up to the next space: letters and digits alone. */
function restOfWord(which, direction) {
  let rest = "";
  for (let at = which; rest.length < 40; at += direction) {
    const [here, there] = [textOf(at), textOf(at + direction)];
    const joined = direction < 0 ? /^[\p{L}\p{N}]/u.test(here) : /[\p{L}\p{N}]$/u.test(here);
    const part = joined && there.match(direction < 0 ? /[\p{L}\p{N}]+$/u : /^[\p{L}\p{N}]+/u);
    if (!part) break;
    rest = direction < 0 ? part[0] + rest : rest + part[0];
    if (part[0] !== there) break;
  }
  return rest;
}

// ---------------------------------------------------------------- the five questions

function showFindings() {
  byId("findings").replaceChildren(
    ...findings(look, answer).flatMap((finding) => {
      const [term, told] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = finding.question;
      told.id = `finding-${finding.id}`;
      const target = finding.place === null ? told : told.appendChild(document.createElement("button"));
      for (const part of finding.text) target.append(typeof part === "string" ? part : quoted(part.token));
      if (target !== told) {
        target.type = "button";
        target.className = "plain";
        target.addEventListener("click", () => goTo(finding));
      }
      return [term, told];
    }),
  );
}

function goTo(finding) {
  if (finding.quantity) colourBy(finding.quantity);
  lookAt(finding.place);
  tokens.mark(finding.place, true);
}

// ---------------------------------------------------------------- the film

async function play() {
  if (playing) return pause();
  playing = 1;
  byId("play-text").textContent = "Pause";
  if (look.step === run.looks.at(-1)) await go(run.looks[0]);
  while (playing && look.step !== run.looks.at(-1)) {
    await new Promise((resolve) => (playing = setTimeout(resolve, A_FRAME)));
    if (playing) await step(1);
  }
  pause();
}

function pause() {
  clearTimeout(playing);
  playing = 0;
  byId("play-text").textContent = "Play";
}

// ---------------------------------------------------------------- what people do

tokens.onLook = lookAt;

byId("previous").addEventListener("click", () => (pause(), step(-1)));
byId("next").addEventListener("click", () => (pause(), step(1)));
byId("play").addEventListener("click", play);
byId("slider").addEventListener("input", (event) => (pause(), go(run.looks[event.target.value])));
byId("quantity").addEventListener("change", (event) => colourBy(event.target.value));
byId("curves").addEventListener("click", (event) => {
  const box = event.target.closest("figure")?.querySelector("svg").getBoundingClientRect();
  if (box && run.looks.length) go(before(stepAt(run.curves, (event.clientX - box.left) / box.width)));
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || !look) return;
  if (event.target.matches("select")) return;
  const key = event.key.toLowerCase();
  if (key === ",") (pause(), step(-1));
  else if (key === ".") (pause(), step(1));
  else if (key === "p") play();
  else if (key === "c") nextColour();
  else if (/^[1-9]$/.test(key)) choose(Number(key) - 1);
  else return;
  event.preventDefault();
});

follow({
  path: "/api/look",
  title: "see it learn",
  unit: "tokens",
  resting: {
    waits: ["Not a look yet", "The first one appears here by itself, after the first iteration."],
    never: ["No looks at tokens", "This run kept none (trace_every=0), or is older than they are."],
  },
  end: (each) => each.end,
  isBusy: () => false,
  instead: nearest,
  shown: showLook,
});
