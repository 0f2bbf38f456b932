// The page of a run that learns to fly: curves, and at every look the same flights, with the critic's value.

import { stepAt } from "./chart.js";
import { byId, follow, go, look, page, run, say, showStep, step } from "./followed.js";
import { Lines } from "./lines.js";
import { plain } from "./quantities.js";
import { Scene } from "./scene.js";

const FASTER = 10; // than real time, in which the film flies
const ON_TARGET = 6; // metres: what counts as arrived

let flight = null;
let chosen = 0; // which flight; it stays from look to look
let moment = 0;
let drawn = []; // what follows the moment
let playing = 0;

const said = (unit, digits = 1) => (x) => `${x.toFixed(digits).replace("-", "−")}${unit}`;

/** The lines under the film, the value first. */
const kindsOf = (flown) => [
  { name: "value, in rewards to come", tall: true, say: said(""), lines: [
    { column: "value", name: "what the critic expects", style: "value" },
    { column: "came", name: "what came", style: "came" },
  ] },
  { name: "reward", say: said("", 2), lines: [{ column: "reward", style: "plainly" }] },
  { name: "elevator", say: said("°"), lines: [{ column: "elevator_deg", style: "plainly" }] },
  { name: "throttle", say: (x) => `${(100 * x).toFixed(0)} %`, lines: [{ column: "throttle", style: "plainly" }] },
  { name: "airspeed", say: said(" m/s"), lines: [
    { column: "airspeed_mps", name: "flown", style: "plainly" },
    { column: flown.target_airspeed_mps, name: "target", style: "wanted" },
  ] },
];

// ---------------------------------------------------------------- a look

function showLook() {
  chosen = Math.min(chosen, look.flights.length - 1);
  flight = look.flights[chosen];
  showStep();
  showTabs();
  draw();
  showNote();
  showFindings();
  say(byId("when").textContent);
  page.state = "ready";
}

function showTabs() {
  byId("tabs").replaceChildren(
    ...look.flights.map((each, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = each.name === "none" ? "Still air" : `Turbulence: ${each.name}`;
      button.setAttribute("aria-pressed", index === chosen);
      if (index < 9) button.setAttribute("aria-keyshortcuts", index + 1);
      button.addEventListener("click", () => choose(index));
      return button;
    }),
  );
}

function choose(index) {
  if (!look?.flights[index]) return;
  chosen = index;
  showLook();
}

const last = () => flight.columns.altitude_m.length - 1;
const longest = () => look.flights.reduce((most, each) => Math.max(most, each.columns.altitude_m.length), 2);

function draw() {
  const moments = longest();
  drawn = [new Scene(byId("scene"), flight, moments), new Lines(byId("lines"), flight, kindsOf(flight), moments)];
  byId("time").max = last();
  at(Math.min(moment, last()));
}

function showNote() {
  const ended = flight.cause === null ? "It was flown to its end" : `It ended early: ${flight.cause}`;
  const ahead = (1 / (1 - look.gamma)) * look.step_seconds;
  byId("note").textContent =
    `${ended}, with a return of ${flight.total.toFixed(1)}. The same start, targets and gusts at every look; nothing is learnt from it. ` +
    `A value counts rewards as far as about ${ahead.toFixed(0)} s ahead` +
    (flight.cause === null ? "; for those behind the end stands the critic's own value." : ".");
}

// ---------------------------------------------------------------- one moment

function at(which) {
  moment = which;
  for (const each of drawn) each.at(which);
  const seconds = (which * look.step_seconds).toFixed(1);
  byId("time").value = which;
  byId("time").setAttribute("aria-valuetext", `${seconds} seconds`);
  const { columns } = flight;
  const off = columns.altitude_m[which] - flight.target_altitude_m;
  const gust = Math.hypot(columns.gust_up_mps[which], columns.gust_forward_mps[which]);
  const heading = document.createElement("h2");
  heading.textContent = `Second ${seconds} of ${(last() * look.step_seconds).toFixed(1)}`;
  byId("detail").replaceChildren(
    heading,
    ...table("State", [
      ["altitude", said(" m", 0)(columns.altitude_m[which])],
      ["off the target", `${off >= 0 ? "+" : ""}${said(" m")(off)}`],
      ["climb", said(" m/s")(columns.climb_mps[which])],
      ["airspeed", said(" m/s")(columns.airspeed_mps[which])],
      ["target airspeed", said(" m/s")(flight.target_airspeed_mps)],
      ["nose up", said("°")(columns.pitch_deg[which])],
      ["gust", said(" m/s")(gust)],
    ]),
    ...table("Action", [
      ["elevator", told(columns.elevator_deg[which], said("°"))],
      ["throttle", told(columns.throttle[which], (x) => `${(100 * x).toFixed(0)} %`)],
    ]),
    ...table("Reward", [["of this step", told(columns.reward[which], said("", 2))]]),
    ...table("Value", [
      ["what the critic expects", plain(columns.value[which])],
      ["what came", plain(columns.came[which])],
    ]),
  );
}

const told = (x, say) => (x === null || x === undefined ? "none: it is over" : say(x));

function table(name, rows) {
  const [heading, list] = [document.createElement("h3"), document.createElement("table")];
  heading.textContent = name;
  for (const [label, value] of rows) {
    const row = list.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = label;
    row.append(head);
    row.insertCell().textContent = value;
  }
  return [heading, list];
}

// ---------------------------------------------------------------- what happened

function showFindings() {
  byId("findings").replaceChildren(
    ...findings().flatMap(([id, question, text, place]) => {
      const [term, answer] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = question;
      answer.id = `finding-${id}`;
      const target = place === null ? answer : answer.appendChild(document.createElement("button"));
      target.textContent = text;
      if (place !== null) {
        target.type = "button";
        target.className = "plain";
        target.addEventListener("click", () => (pause(), at(place)));
      }
      return [term, answer];
    }),
  );
}

function findings() {
  const { altitude_m, value, came } = flight.columns;
  const seconds = (place) => `${(place * look.step_seconds).toFixed(1)} s`;
  const away = altitude_m.map((altitude) => Math.abs(altitude - flight.target_altitude_m));
  const outside = away.findLastIndex((x) => x > ON_TARGET);
  const settled = outside < last() && flight.cause === null;
  const wrong = value.map((x, place) => Math.abs(x - came[place]));
  const most = wrong.indexOf(Math.max(...wrong));
  const worse = value.slice(1).map((x, place) => x - value[place]);
  const fall = Math.min(...worse);
  const fell = worse.indexOf(fall);
  return [
    ["arrived", "When was it on target for good?", settled ? `after ${seconds(outside + 1)}, within ${ON_TARGET} m from there on` : "never", settled ? outside + 1 : null],
    ["critic", "What did the critic think?", `at the start it expected ${plain(value[0])}, and ${plain(came[0])} came`, 0],
    ["wrong", "Where was it most wrong?", `at ${seconds(most)}: expected ${plain(value[most])}, and ${plain(came[most])} came`, most],
    ["fell", "Where did things get worse?", fall < 0 ? `at ${seconds(fell + 1)} its value fell most, by ${plain(-fall)}` : "nowhere: its value never fell", fall < 0 ? fell + 1 : null],
    ["ended", "Did it end early?", flight.cause === null ? "no" : `yes, after ${seconds(last())}: ${flight.cause}`, flight.cause === null ? null : last()],
  ];
}

// ---------------------------------------------------------------- the film

const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

/** Flies on from here, and then the flights of the looks that follow. */
async function play() {
  if (playing) return pause();
  const mine = (playing = performance.now());
  byId("play-text").textContent = "Pause";
  if (moment === last() && look.step === run.looks.at(-1)) await go(run.looks[0]);
  if (moment === last()) at(0);
  while (playing === mine) {
    const [begun, from] = [performance.now(), moment];
    while (playing === mine && moment < last()) {
      const now = await frame();
      const due = from + Math.floor((FASTER * (now - begun)) / (1000 * look.step_seconds));
      if (playing === mine) at(Math.max(from, Math.min(due, last())));
    }
    if (playing !== mine || look.step === run.looks.at(-1)) break;
    await step(1);
    if (playing === mine) at(0);
  }
  if (playing === mine) pause();
}

function pause() {
  playing = 0;
  byId("play-text").textContent = "Play";
}

// ---------------------------------------------------------------- what people do

/** The moment under the pointer. */
function point(event) {
  const svg = event.target.closest("svg");
  if (!svg || !flight || (event.type === "pointermove" && !event.buttons)) return;
  const box = svg.getBoundingClientRect();
  const share = (event.clientX - box.left) / box.width;
  pause();
  at(Math.min(last(), Math.max(0, Math.round(share * (longest() - 1)))));
}

for (const id of ["scene", "lines"])
  for (const kind of ["pointerdown", "pointermove"]) byId(id).addEventListener(kind, point);
byId("time").addEventListener("input", (event) => (pause(), at(Number(event.target.value))));
byId("previous").addEventListener("click", () => (pause(), step(-1)));
byId("next").addEventListener("click", () => (pause(), step(1)));
byId("play").addEventListener("click", play);
byId("slider").addEventListener("input", (event) => (pause(), go(run.looks[event.target.value])));
byId("curves").addEventListener("click", (event) => {
  const box = event.target.closest("figure")?.querySelector("svg").getBoundingClientRect();
  if (!box || !run.looks.length) return;
  const there = stepAt(run.curves, (event.clientX - box.left) / box.width);
  pause();
  go(run.looks.filter((each) => each <= there).at(-1) ?? run.looks[0]);
});
new ResizeObserver(() => flight && draw()).observe(byId("scene"));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || !flight) return;
  const key = event.key.toLowerCase();
  const by = { arrowleft: -1, arrowright: 1 }[key];
  if (key === ",") (pause(), step(-1));
  else if (key === ".") (pause(), step(1));
  else if (key === "p") play();
  else if (by && !event.target.matches("input")) (pause(), at(Math.min(last(), Math.max(0, moment + by))));
  else if (/^[1-9]$/.test(key)) choose(Number(key) - 1);
  else return;
  event.preventDefault();
});

follow({
  path: "/api/flights",
  title: "see it learn to fly",
  unit: "steps",
  resting: {
    waits: ["Not a flight yet", "The first one appears here by itself."],
    never: ["No flights", "This run is older than they are."],
  },
  end: (each) => each.step,
  isBusy: () => playing,
  instead: () => run.looks.at(-1),
  shown: showLook,
});
