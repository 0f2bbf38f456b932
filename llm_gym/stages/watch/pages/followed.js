// A run that is followed: its name, state and curves, and its looks one after the other, as they appear.

import { drawCurves } from "./chart.js";
import { show } from "./text.js";
import { Refused, Server } from "./transport.js";

const LOOK_AGAIN = 2500; // ms between questions for new figures

export const byId = (id) => document.getElementById(id);
export const page = document.body.dataset;

export let run = { name: [], state: "", curves: [], looks: [] };
export let look = null;

const server = new Server();
let asked = 0; // numbers the requests, so that a late answer is dropped
let of = null;

/**
 * Follows the run from now on.
 *
 * @param {object} what of the page: `path` of a look; `title` and `unit` of its steps; `resting`, the title and
 *   text where there are no looks (yet, or at all); `end` of a look on the curves; `isBusy`, whether a new look has
 *   to wait; `instead`, the step to show where the run went on from before the look; `shown`, called with each look.
 */
export function follow(what) {
  of = what;
  refresh();
}

// ---------------------------------------------------------------- talking to the server

async function post(path, body) {
  try {
    return await server.post(path, body);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    trouble(error.message);
    return null;
  }
}

async function refresh() {
  if (!document.hidden || look === null) {
    const follows = look === null || look.step === run.looks.at(-1);
    const found = await post("/api/run", {});
    if (found) {
      run = found;
      showRun();
      const newest = run.looks.at(-1);
      if (run.looks.length && follows && !of.isBusy() && look?.step !== newest) await go(newest);
      else if (look && !run.looks.includes(look.step)) await go(of.instead(look.step)); // it went on from before
    }
  }
  setTimeout(refresh, LOOK_AGAIN);
}

export async function go(step) {
  if (step === undefined) return;
  const number = ++asked;
  if (page.state !== "busy") page.state = "busy";
  const found = await post(of.path, { step });
  if (number !== asked) return;
  if (!found) {
    page.state = look ? "ready" : "busy";
    return;
  }
  look = found;
  trouble(null);
  await of.shown();
}

export const step = (by) => go(run.looks[run.looks.indexOf(look?.step) + by]);

// ---------------------------------------------------------------- what is the same on every page

function showRun() {
  show(byId("name"), run.name);
  byId("state").textContent = run.state;
  byId("state").hidden = !run.state;
  byId("state").classList.toggle("live", run.state === "running");
  document.title = `${byId("name").textContent}: ${of.title}`;
  byId("stage").hidden = !run.looks.length;
  byId("rest").hidden = run.looks.length > 0;
  if (!run.looks.length) {
    const waits = run.state === "running" || run.state === "new";
    const [title, text] = waits ? of.resting.waits : of.resting.never;
    byId("rest-title").textContent = title;
    byId("rest-text").textContent = text;
    page.state = "resting";
  }
  showStep();
}

export function showStep() {
  const index = look ? run.looks.indexOf(look.step) : -1;
  const slider = byId("slider");
  slider.max = Math.max(0, run.looks.length - 1);
  slider.value = index;
  byId("previous").disabled = index <= 0;
  byId("next").disabled = index < 0 || index >= run.looks.length - 1;
  const when = look ? `after ${look.step.toLocaleString("en")} ${of.unit} of ${look.algorithm}` : "";
  byId("when").textContent = look ? `Look ${index + 1} of ${run.looks.length}, ${when}` : "";
  slider.setAttribute("aria-valuetext", when);
  drawCurves(byId("curves"), run.curves, look ? of.end(look) : null);
}

export function trouble(sentence) {
  byId("trouble").hidden = sentence === null;
  byId("trouble").textContent = sentence ?? "";
}

export function say(sentence) {
  byId("status").textContent = sentence;
}

server.onTrouble = (message) => trouble(message === null ? null : `${message} Trying again …`);
