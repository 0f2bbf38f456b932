// What the browser remembers: the rater's name, and votes that the server has not acknowledged.

const NAME = "llm_gym.rater";
const VOTE = "llm_gym.vote.";
const DEVICE = "llm_gym.device";

/** The name entered here, unless the server was started for somebody else since. */
export function recallName(suggested) {
  const [name, instead] = read(NAME) ?? [];
  return name && instead === suggested ? name : suggested;
}

export function rememberName(name, suggested) {
  write(NAME, [name, suggested]);
}

/** What tells this device from others that give the same name; the same after a reload. */
export function deviceKey() {
  const key = read(DEVICE) ?? newKey();
  write(DEVICE, key);
  return key;
}

export function keepVote(vote) {
  write(VOTE + vote.key, vote);
}

export function forgetVote(vote) {
  try {
    localStorage.removeItem(VOTE + vote.key);
  } catch {
    // A browser may forbid storage; then nothing was kept.
  }
}

export function keptVotes() {
  try {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(VOTE))
      .map(read)
      .filter(Boolean);
  } catch {
    return [];
  }
}

/** A key that makes a repeated request count once. Works without a secure context too. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: the vote still lives in the page.
  }
}
