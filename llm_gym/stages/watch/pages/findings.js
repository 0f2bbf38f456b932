// Five questions about an answer, answered from its numbers; each names the token it is about.

import { byId, has, plain, whyNot } from "./quantities.js";

const SURE = 1e-6; // what differs by less differs by rounding

/**
 * @returns {{id: string, question: string, place: number|null, quantity: string,
 *   text: (string|{token: number})[]}[]} a text's parts are words, or tokens to be quoted.
 */
export function findings(look, answer) {
  return [won(look, answer), critic(look, answer), likelier(look, answer), moved(look, answer), cut(answer)];
}

function won(look, answer) {
  const finding = { id: "won", question: "Where was it won?", quantity: "advantage" };
  const { advantage } = byId;
  if (!has(answer, advantage)) return without(finding, look, answer, advantage);
  const place = most(answer, advantage);
  const all = numbers(answer, advantage);
  if (Math.max(...all) - Math.min(...all) < SURE)
    return { ...finding, place: null, text: [`every token has the same advantage, ${advantage.say(all[0])}`] };
  const amount = advantage.of(answer, place);
  const what = amount > 0 ? "advantage" : "nowhere: even the best token has an advantage of";
  return { ...finding, place, text: [...(amount > 0 ? ["at ", { token: place }, ", "] : []), `${what} ${advantage.say(amount)}`] };
}

function critic(look, answer) {
  const finding = { id: "critic", question: "What did the critic think?", quantity: "value" };
  const { value } = byId;
  if (!has(answer, value)) return without(finding, look, answer, value);
  const all = numbers(answer, value);
  const score = answer.score === null ? "" : `; the score was ${plain(answer.score)}`;
  const place = answer.tokens.findIndex((_, each) => value.of(answer, each) !== null);
  return { ...finding, place, text: [`it expected ${plain(all[0])} at the beginning and ${plain(all.at(-1))} at the end${score}`] };
}

function likelier(look, answer) {
  const finding = { id: "likelier", question: "Which word became more likely?", quantity: "change" };
  const { change, prob, prob_after } = byId;
  if (!has(answer, change)) return without(finding, look, answer, change);
  const place = most(answer, change);
  if (change.of(answer, place) <= 0) return { ...finding, place: null, text: ["none of this answer's"] };
  const both = `${prob.say(prob.of(answer, place))} → ${prob.say(prob_after.of(answer, place))}`;
  return { ...finding, place, text: [{ token: place }, `, ${both}`] };
}

function moved(look, answer) {
  const finding = { id: "moved", question: "Where did it leave the reference?", quantity: "kl" };
  const { kl } = byId;
  if (!has(answer, kl)) return without(finding, look, answer, kl);
  const place = most(answer, kl);
  const sum = numbers(answer, kl).reduce((a, b) => a + b, 0);
  return { ...finding, place, text: ["most at ", { token: place }, `, ${kl.say(kl.of(answer, place))}; ${kl.say(sum)} in all`] };
}

function cut(answer) {
  const finding = { id: "cut", question: "Was it cut?", quantity: null };
  const place = answer.tokens.length - 1;
  const tokens = `${answer.by_agent.filter(Boolean).length} tokens`;
  const reasons = {
    eos: `no, it ended by itself after ${tokens}`,
    stop_string: `no, a stop string ended it after ${tokens}`,
    length: `yes, its length budget ended it after ${tokens}`,
  };
  const unfinished = answer.ends ? `it ended after ${tokens}` : `its rollout ended after ${tokens}; it goes on in the next`;
  return { ...finding, place, text: [reasons[answer.stop_reason] ?? unfinished] };
}

function without(finding, look, answer, quantity) {
  return { ...finding, place: null, quantity: null, text: [`not known: ${whyNot(look, answer, quantity)}`] };
}

function numbers(answer, quantity) {
  return answer.tokens.map((_, place) => quantity.of(answer, place)).filter((x) => x !== null);
}

/** The token with the most of a quantity. */
function most(answer, quantity) {
  let best = null;
  answer.tokens.forEach((_, place) => {
    const x = quantity.of(answer, place);
    if (x !== null && (best === null || x > quantity.of(answer, best))) best = place;
  });
  return best;
}
