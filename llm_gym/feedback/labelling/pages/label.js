// The page for people: one question at a time, a vote, the next question.

import { deviceKey, forgetVote, keepVote, keptVotes, newKey, recallName, rememberName } from "./memory.js";
import { hint, show, showList } from "./text.js";
import { NO_KEY, Refused, Server } from "./transport.js";

const AT_ONCE = 200; // ms; nobody has read a question by then, so a key was meant for the last one
const NOT_HERE = 404; // the server's word for a question that is not its own
const LOOK_AGAIN = 10000; // ms between looks for new comparisons
const LOOK_AGAIN_LIVE = 1000; // ms, while a model is writing the next answer

const KEYS = {
  ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right",
  ArrowDown: "tie", t: "tie", s: "skip", u: "undo",
};

const byId = (id) => document.getElementById(id);
const page = document.body.dataset;
const suggested = page.rater;
const server = new Server();

let rater = "";
let question = null;
let summary = null;
let shownAt = 0; // on the clock that stands still while the page is hidden
let hiddenSince = null;
let hiddenFor = 0;
let lookAgain = 0;
let getReady = 0;

// ---------------------------------------------------------------- talking to the server

async function begin(name) {
  page.state = "busy";
  byId("welcome").hidden = true;
  const seat = page.shared === "yes" ? await seatFor(name) : name;
  if (seat === null) return;
  rater = seat;
  byId("name").textContent = rater;
  byId("who").hidden = false;
  // Votes that a closed or crashed page could not deliver go first.
  for (const vote of keptVotes()) await deliver(vote).catch(unlessRefused);
  await ask();
}

/** The name that this device has where many vote: two of one name would be one rater. */
async function seatFor(name) {
  try {
    const { rater: seat } = await server.post("/api/seat", { rater: name, device: deviceKey() });
    rememberName(seat, suggested);
    return seat;
  } catch (error) {
    unlessRefused(error);
    page.state = "resting";
    askName();
    trouble(error.message);
    return null;
  }
}

async function ask() {
  page.state = "busy";
  await change("/api/next", { rater });
}

async function deliver(vote) {
  keepVote(vote);
  try {
    const answer = await server.post("/api/vote", vote);
    forgetVote(vote);
    return answer;
  } catch (error) {
    // A vote on a question of another server, which was at this address before, waits for it; and
    // one that had no key to be delivered with, for the address that has.
    if (error.status !== NOT_HERE && error.status !== NO_KEY) forgetVote(vote);
    throw error;
  }
}

async function vote(verdict) {
  if (page.state !== "ready") return;
  page.state = "busy";
  page.chosen = String(verdict);
  const body = {
    rater,
    question_id: question.id,
    fingerprint: question.fingerprint,
    shown_first: question.shown_first,
    verdict,
    seconds: (now() - shownAt) / 1000,
    key: newKey(),
  };
  try {
    display(await deliver(body));
  } catch (error) {
    unlessRefused(error);
    await ask();
    if (error.status !== NO_KEY) trouble(`Your last vote was not counted: ${error.message}`); // stays until the next one
  }
}

async function undo() {
  if (page.state !== "ready" && page.state !== "resting") return;
  if (summary.undo_id === null) return;
  page.state = "busy";
  await change("/api/undo", { rater, vote_id: summary.undo_id });
}

async function change(path, body) {
  try {
    display(await server.post(path, body));
  } catch (error) {
    unlessRefused(error);
    trouble(error.message);
    page.state = "stopped";
  }
}

function unlessRefused(error) {
  if (!(error instanceof Refused)) throw error;
}

// ---------------------------------------------------------------- showing

function display(answer) {
  if (answer.summary.rater !== rater) return; // the rater changed while the answer was on its way
  ({ question, summary } = answer);
  clearTimeout(lookAgain);
  clearTimeout(getReady);
  delete page.chosen;
  showProgress();
  showList(byId("notes"), summary.notes);
  byId("question").hidden = question === null;
  byId("rest").hidden = question !== null;
  byId("bar").hidden = question === null && summary.undo_id === null;
  byId("undo").hidden = summary.live;
  byId("undo").disabled = summary.undo_id === null;
  page.view = question === null ? "rest" : "question";
  byId("votes").hidden = question === null || question.kind !== "comparison";
  byId("score").hidden = question === null || question.kind !== "score";
  byId("skip").hidden = question === null;
  if (question === null) showRest();
  else showQuestion();
}

function showQuestion() {
  const compares = question.kind === "comparison";
  byId("title").textContent = compares ? "Which answer is better?" : "How good is this answer?";
  byId("answers").classList.toggle("alone", !compares);
  byId("card-right").hidden = !compares;
  show(byId("prompt"), question.prompt);
  show(byId("answer-left"), question.answers[0]);
  if (compares) show(byId("answer-right"), question.answers[1]);
  else startScore();
  hintAll(); // once more: the second answer may have changed the room for the first
  scrollTo(0, 0);
  shownAt = now();
  page.state = "fresh";
  getReady = setTimeout(() => (page.state = "ready"), AT_ONCE);
  say(`Question ${summary.done + 1}${summary.total === null ? "" : ` of ${summary.total}`}`);
}

function startScore() {
  byId("slider").value = byId("number").value = 50;
  byId("number").focus();
  byId("number").select();
}

function showRest() {
  page.state = "resting";
  const [title, text] = summary.live
    ? ["The model is writing", "The next question appears here by itself."]
    : summary.done
      ? ["That was all. Thank you!", "Your votes are saved. You may close this page."]
      : ["Nothing to label", "There is no comparison that waits for you."];
  byId("rest-title").textContent = title;
  byId("rest-text").textContent = text;
  const pause = summary.live ? LOOK_AGAIN_LIVE : LOOK_AGAIN;
  lookAgain = setTimeout(() => page.state === "resting" && ask(), pause);
}

function showProgress() {
  const { done, total, seconds_left } = summary;
  const track = byId("track");
  let text = total === null ? `${done} answered` : `${done} of ${total}`;
  if (page.shared === "yes" && total !== null) text = `${done} by you, ${total - done} left`; // others take some of them
  else if (seconds_left !== null && question !== null) text += `, ${duration(seconds_left)} left at your pace`;
  byId("progress").textContent = text;
  byId("fill").style.width = total ? `${Math.min(100, (100 * done) / total)}%` : "0";
  track.setAttribute("aria-valuemax", total ?? 0);
  track.setAttribute("aria-valuenow", done);
  track.setAttribute("aria-valuetext", text);
  document.title = `${summary.live && question ? "● " : ""}${text}`;
}

function duration(seconds) {
  if (seconds < 60) return "less than a minute";
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  return `about ${(seconds / 3600).toFixed(1)} hours`;
}

function trouble(sentence) {
  const box = byId("trouble");
  box.hidden = sentence === null;
  box.textContent = sentence ?? "";
}

function say(sentence) {
  byId("status").textContent = sentence;
}

function askName() {
  if (page.state === "busy" && rater) return; // a vote is on its way
  clearTimeout(lookAgain);
  clearTimeout(getReady);
  for (const id of ["question", "rest", "bar", "who"]) byId(id).hidden = true;
  page.view = "welcome";
  page.state = "resting";
  byId("welcome").hidden = false;
  byId("rater").value = rater;
  byId("rater").focus();
}

/** Milliseconds during which the page was visible. */
function now() {
  return performance.now() - hiddenFor - (hiddenSince === null ? 0 : performance.now() - hiddenSince);
}

// ---------------------------------------------------------------- what people do

server.onTrouble = (message) => {
  const kept = page.chosen === undefined ? "" : " Your vote is kept here.";
  trouble(message === null ? null : `${message}${kept} Trying again …`);
};

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    hiddenSince = performance.now();
  } else if (hiddenSince !== null) {
    hiddenFor += performance.now() - hiddenSince;
    hiddenSince = null;
  }
});

const texts = document.querySelectorAll(".text");
const hintAll = () => texts.forEach(hint);
for (const text of texts) text.addEventListener("scroll", () => hint(text), { passive: true });
addEventListener("resize", hintAll);

/** Which of the two cards an element is in: the whole card is a button. */
const sideOf = (element) => element.closest(".answer")?.id.replace("card-", "");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (page.view !== "question" && page.view !== "rest") return;
  const focused = document.activeElement;
  const action = event.key === "Enter" ? sideOf(focused) : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action === undefined) return;
  const scores = page.view === "question" && question.kind === "score";
  if (scores && action !== "skip") return; // digits and arrows belong to the number
  const scrolls = focused.classList.contains("text") && focused.scrollHeight > focused.clientHeight;
  if (event.key === "ArrowDown" && scrolls) return;
  event.preventDefault();
  if (event.repeat) return; // a key held down is one vote
  if (action === "undo") undo();
  else if (page.view === "question") vote(action);
});

byId("bar").addEventListener("click", (event) => {
  const verdict = event.target.closest("button")?.dataset.verdict;
  if (verdict) vote(verdict);
});
byId("answers").addEventListener("click", (event) => {
  const side = sideOf(event.target);
  const marksText = getSelection().toString() !== "";
  if (side && !marksText && question.kind === "comparison") vote(side);
});
byId("undo").addEventListener("click", undo);
byId("change").addEventListener("click", askName);

byId("slider").addEventListener("input", (event) => (byId("number").value = event.target.value));
byId("number").addEventListener("input", (event) => (byId("slider").value = event.target.value));
byId("score").addEventListener("submit", (event) => {
  event.preventDefault();
  vote(byId("number").valueAsNumber);
});

byId("welcome").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("rater").value.trim();
  if (!name && page.shared !== "yes") return;
  rememberName(name, suggested);
  begin(name);
});

const known = recallName(suggested);
if (known) begin(known);
else askName();
