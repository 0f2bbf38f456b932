// What a token can be coloured by: where its number is, how it is said, and which colour it gives.

const percent = (p) => (p >= 0.0995 || p === 0 ? `${(100 * p).toFixed(0)} %` : `${(100 * p).toPrecision(2)} %`);
const signed = (x) => `${x > 0 ? "+" : x < 0 ? "−" : ""}${plain(Math.abs(x))}`;
const points = (x) => `${x > 0 ? "+" : x < 0 ? "−" : ""}${(100 * Math.abs(x)).toPrecision(2)} points`;
const nats = (x) => `${signed(x)} nats`;

/** A number to three figures, without an exponent where it can be. */
export function plain(x) {
  const size = Math.abs(x);
  if (size >= 1000) return Math.round(x).toLocaleString("en");
  return size === 0 || size >= 0.001 ? String(Number(x.toPrecision(3))) : x.toExponential(1);
}

/** Where an answer has the numbers of a quantity. */
export const column = (name) => (answer, place) => answer.quantities[name]?.[place] ?? null;

function change(answer, place) {
  const [before, after] = [column("prob")(answer, place), column("prob_after")(answer, place)];
  return before === null || after === null ? null : after - before;
}

/**
 * `scale`: "signed" is pale at 0 and goes both ways, as far as the answer's largest; "low" is dark
 * where the number is low, from 1 to 0; "high" is dark where it is high, over the answer's range.
 * `short` is its name where there is little room; `needs` is the recorded quantity whose absence is explained by the run.
 */
export const QUANTITIES = [
  { id: "change", short: "change by the update", name: "what the update did to its probability", of: change, say: points, scale: "signed", needs: "log_prob_after" },
  { id: "prob", short: "probability", name: "probability when it was sampled", of: column("prob"), say: percent, scale: "low", needs: "log_prob" },
  { id: "prob_after", short: "after the update", name: "probability after the update", of: column("prob_after"), say: percent, scale: "low", needs: "log_prob_after" },
  { id: "advantage", short: "advantage", name: "advantage", of: column("advantage"), say: signed, scale: "signed", needs: "advantage" },
  { id: "value", short: "value", name: "value: what the critic expects", of: column("value"), say: plain, scale: "high", needs: "value" },
  { id: "kl", short: "divergence", name: "divergence from the reference", of: column("kl"), say: nats, scale: "signed", needs: "kl" },
  { id: "entropy", short: "entropy", name: "entropy: how open the choice was", of: column("entropy"), say: (x) => `${plain(x)} nats`, scale: "high", needs: "entropy" },
  { id: "clipped", short: "clipped", name: "clipped", of: column("clipped"), say: (x) => (x ? "yes" : "no"), scale: "high", needs: "clipped" },
  { id: "reward", short: "reward", name: "reward", of: column("reward"), say: signed, scale: "signed", needs: "reward" },
];

export const byId = Object.fromEntries(QUANTITIES.map((quantity) => [quantity.id, quantity]));

/** Whether any token of an answer has a quantity. */
export function has(answer, quantity) {
  return answer.tokens.some((_, place) => quantity.of(answer, place) !== null);
}

/** Why an answer does not have a quantity. */
export function whyNot(look, answer, quantity) {
  const told = look.absent[quantity.needs];
  if (told) return told;
  return answer.kind === "probe" ? "nothing was learnt from this answer" : "it was not recorded";
}

/** The range of a quantity over an answer: [lowest, highest] of the scale. */
export function rangeOf(answer, quantity) {
  const numbers = answer.tokens.map((_, place) => quantity.of(answer, place)).filter((x) => x !== null);
  if (quantity.scale === "low" || quantity.id === "clipped") return [0, 1];
  if (quantity.scale === "signed") {
    const far = numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    return [-far, far];
  }
  return numbers.length ? [least(numbers), -least(numbers.map((x) => -x))] : [0, 0];
}

const least = (numbers) => numbers.reduce((low, x) => Math.min(low, x), Infinity);

/** Where a number lies on its scale: from -1 to 1, 0 is no colour. */
export function shade(quantity, [low, high], x) {
  if (quantity.scale === "low") return 1 - x;
  if (quantity.scale === "signed") return high > 0 ? x / high : 0;
  return high > low ? (x - low) / (high - low) : 0;
}
