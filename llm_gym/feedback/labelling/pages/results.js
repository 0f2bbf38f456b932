// How the votes of many people stand, for the projector; it looks again by itself.

import { Refused, Server } from "./transport.js";

const LOOK_AGAIN = 2000; // ms
const FEW = 10; // shared pairs; agreement on fewer says next to nothing
const BAR = 10; // units of the drawing that a minute is wide

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const page = document.body.dataset;
const server = new Server();
let ways = [];

async function refresh() {
  if (!document.hidden || page.state === "busy") {
    try {
      const { results, join } = await server.post("/api/results", {});
      showResults(results);
      showWays(join);
      page.state = "ready";
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      trouble(error.message);
      page.state = "stopped";
      return;
    }
  }
  setTimeout(refresh, LOOK_AGAIN);
}

// ---------------------------------------------------------------- the votes

function showResults(results) {
  const { votes, wanted, raters, skips, ties } = results;
  byId("votes").textContent = votes.toLocaleString("en");
  byId("wanted").textContent = `of ${counted(wanted, "vote")}`;
  byId("fill").style.width = wanted ? `${(100 * votes) / wanted}%` : "0";
  const track = byId("track");
  track.setAttribute("aria-valuemax", wanted);
  track.setAttribute("aria-valuenow", votes);
  byId("who").textContent = raters === 1 ? "1 person has voted" : `${raters.toLocaleString("en")} people have voted`;
  byId("besides").textContent = besides(results.shown_first, ties, skips);
  showAgreement(results);
  byId("pace").replaceChildren(String(round(results.votes_per_minute)), small(" a minute"));
  byId("pace-note").textContent = timeLeft(results);
  showBars(results.minutes);
  document.title = `${votes} of ${wanted} votes`;
}

function besides(first, ties, skips) {
  const parts = [counted(ties, "tie"), `${skips} skipped`];
  if (first.value !== null) parts.push(`${percent(first.value)} for the answer shown first ${range(first, percent)}`);
  return parts.join(", ");
}

function showAgreement({ shared, same, alpha, cohen }) {
  const coefficient = cohen ?? alpha;
  const pairs = counted(shared, "shared pair");
  const few = shared < FEW ? `; too few to say much` : "";
  byId("same").textContent = same.value === null ? "–" : percent(same.value);
  byId("same-note").textContent =
    same.value === null ? "no pair has been judged twice yet" : `say the same ${range(same, percent)}, on ${pairs}${few}`;
  byId("alpha-name").textContent = cohen ? "Cohen’s κ" : "Krippendorff’s α";
  byId("alpha").textContent = coefficient.value === null ? "–" : coefficient.value.toFixed(2).replace("-", "−");
  const ends = coefficient.value === null ? "" : `${range(coefficient, (x) => x.toFixed(2).replace("-", "−"))}; `;
  byId("alpha-note").textContent = `${ends}1 is full agreement, 0 that of chance`;
}

function timeLeft({ minutes_left: left, votes, wanted }) {
  if (votes >= wanted) return "all votes are in";
  if (left === null) return "nobody has voted of late";
  return left < 1 ? "less than a minute left" : `about ${counted(Math.round(left), "minute")} left at this pace`;
}

/** Votes in each minute as bars; the one that is running is pale. */
function showBars(minutes) {
  byId("chart").hidden = minutes.length < 2;
  const most = Math.max(...minutes, 1);
  const svg = byId("bars");
  svg.setAttribute("viewBox", `0 0 ${BAR * minutes.length} 100`);
  svg.replaceChildren(
    ...minutes.map((count, index) => {
      const bar = document.createElementNS(SVG, "rect");
      const height = (100 * count) / most;
      const sizes = { x: index * BAR + 1, y: 100 - height, width: BAR - 2, height };
      for (const [name, x] of Object.entries(sizes)) bar.setAttribute(name, x);
      if (index === minutes.length - 1) bar.setAttribute("class", "running");
      return bar;
    }),
  );
  byId("chart-name").textContent = `Votes in each of the last ${minutes.length} minutes, at most ${most}`;
}

const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)} %`;
const range = ({ low, high }, say) => (low === null || high === null ? "" : `(${say(low)} to ${say(high)})`);
const round = (x) => (x < 9.95 ? Number(x.toFixed(1)) : Math.round(x));

// ---------------------------------------------------------------- how to join in

function showWays(found) {
  if (JSON.stringify(found) === JSON.stringify(ways)) return; // whoever is choosing one goes on
  const before = byId("network").value;
  ways = found;
  byId("join").hidden = !ways.length;
  byId("choice").hidden = ways.length < 2;
  byId("network").replaceChildren(
    ...ways.map(({ interface: name, url }) => new Option(name ? `${name}: ${new URL(url).hostname}` : url, url, false, url === before)),
  );
  showCode();
}

function showCode() {
  const way = ways.find(({ url }) => url === byId("network").value);
  if (!way) return;
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", way.path);
  byId("code").setAttribute("viewBox", `0 0 ${way.size} ${way.size}`);
  byId("code").replaceChildren(path);
  byId("address").replaceChildren(...way.url.split(/(?=#)/).map(small));
}

function small(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span;
}

function trouble(sentence) {
  byId("trouble").hidden = sentence === null;
  byId("trouble").textContent = sentence ?? "";
}

server.onTrouble = (message) => trouble(message === null ? null : `${message} Trying again …`);
byId("network").addEventListener("change", showCode);

refresh();
