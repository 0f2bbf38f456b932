// Requests to the server, repeated until it has answered: it may be restarted while people vote.

const FIRST_PAUSE = 400; // milliseconds; doubled up to the longest
const LONGEST_PAUSE = 5000;
const PATIENCE = 15000; // for one answer
export const NO_KEY = 401; // the address was typed without its end, or is that of a server long gone

/** The server understood a request and said no; to ask again would change nothing. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Server {
  #token = null;

  /** Called with a sentence when a request failed and will be repeated, with null when one works. */
  onTrouble = () => {};

  /** Posts JSON and returns the answer's. Waits as long as it takes; throws only `Refused`. */
  async post(path, body) {
    for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      try {
        const answer = await this.#once(path, body);
        this.onTrouble(null);
        return answer;
      } catch (error) {
        if (error instanceof Refused) {
          this.onTrouble(null);
          throw error;
        }
        this.onTrouble(error.message);
        await waking(pause);
      }
    }
  }

  async #once(path, body) {
    if (this.#token === null) {
      // What stands behind the # of the address; a server that other machines reach wants it.
      const session = await reach("/api/session", { headers: { "X-LLM-Gym-Key": location.hash.slice(1) } });
      if (session.status === NO_KEY) throw new Refused(await reason(session), NO_KEY);
      if (!session.ok) throw new Error(await reason(session));
      this.#token = (await session.json()).token;
    }
    const response = await reach(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-LLM-Gym-Token": this.#token },
      body: JSON.stringify(body),
    });
    if (response.ok) return response.json();
    const message = await reason(response);
    if (response.status === 403) {
      this.#token = null; // a server that was restarted has a new one
      throw new Error(message);
    }
    throw response.status >= 500 ? new Error(message) : new Refused(message, response.status);
  }
}

async function reach(path, options) {
  const common = { cache: "no-store", credentials: "omit", mode: "same-origin", redirect: "error" };
  try {
    return await fetch(path, { ...common, ...options, signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Error("The server does not answer.");
  }
}

async function reason(response) {
  try {
    return (await response.json()).error.replace(/\.?$/, ".");
  } catch {
    return `The server answered ${response.status}.`;
  }
}

/** A pause, cut short when the browser finds the network again. */
function waking(milliseconds) {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      removeEventListener("online", wake);
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    addEventListener("online", wake);
  });
}

// Whoever corrects the address of an open page means it to be opened anew.
addEventListener("hashchange", () => location.reload());
