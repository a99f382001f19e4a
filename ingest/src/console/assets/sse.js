// Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), read through `fetch`:
// the browser's own EventSource cannot send an Authorization header, and does not say when a connection is
// open but dead.

/** Milliseconds before the first new attempt; doubled with each that fails. */
const FIRST_PAUSE = 500;
/** The longest pause between attempts. */
const LAST_PAUSE = 10_000;
/** A stream on which nothing came for so long is dead, whatever its socket says. */
const SILENCE = 8_000;

/** Cuts a stream of text into events. */
export class Parser {
  #rest = "";
  #data = [];
  #type = "";
  /** The last id that was told, for `Last-Event-ID`. */
  lastId = "";

  /** Takes in a piece of text; gives the events that are complete with it. */
  push(piece) {
    const events = [];
    this.#rest += piece;
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      if (end < 0) break;
      // A CR at the end may be the first half of CRLF.
      if (this.#rest[end] === "\r" && end + 1 === this.#rest.length) break;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + (this.#rest.startsWith("\r\n", end) ? 2 : 1));
      if (line === "") {
        if (this.#data.length > 0)
          events.push({ type: this.#type || "message", data: this.#data.join("\n") });
        this.#data = [];
        this.#type = "";
      } else {
        this.#line(line);
      }
    }
    return events;
  }

  #line(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment keeps the connection alive, and that is all
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#type = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.lastId = value;
  }
}

/** The pause before an attempt: doubled with each, and spread, so that many consoles do not come at once. */
export function pause(attempt, random = Math.random()) {
  const full = Math.min(LAST_PAUSE, FIRST_PAUSE * 2 ** attempt);
  return full / 2 + (random * full) / 2;
}

/**
 * Keeps a stream open until it is stopped.
 *
 * `open(signal, lastId)` asks for it and gives the response; `onEvent({type, data})` gets each event;
 * `onState({state, error, retryAt})` is told `connecting`, `live`, `lost` (and when the next attempt is) and
 * `stopped`.
 */
export class Stream {
  #options;
  #stop = null;

  constructor(options) {
    this.#options = { silence: SILENCE, ...options };
  }

  /** Begins, unless it has begun. */
  start() {
    if (this.#stop !== null) return;
    this.#stop = new AbortController();
    this.#run(this.#stop.signal);
  }

  /** Ends. */
  stop() {
    this.#stop?.abort();
    this.#stop = null;
    this.#options.onState({ state: "stopped" });
  }

  /** Tries at once, whatever the pause was to be. */
  retry() {
    this.#stop?.abort();
    this.#stop = null;
    this.start();
  }

  async #run(stop) {
    const parser = new Parser();
    for (let attempt = 0; !stop.aborted; attempt += 1) {
      let error = null;
      try {
        if (attempt === 0) this.#options.onState({ state: "connecting" });
        await this.#read(stop, parser, () => {
          attempt = 0;
        });
      } catch (failed) {
        error = failed;
      }
      if (stop.aborted) return;
      const wait = pause(attempt);
      this.#options.onState({ state: "lost", error, retryAt: Date.now() + wait });
      await sleep(wait, stop);
    }
  }

  /** Reads one connection to its end; `heard` is told when something came. */
  async #read(stop, parser, heard) {
    const connection = new AbortController();
    const end = () => connection.abort();
    stop.addEventListener("abort", end);
    let watchdog = setTimeout(end, this.#options.silence);
    try {
      const response = await this.#options.open(connection.signal, parser.lastId);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done || stop.aborted) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(end, this.#options.silence);
        heard();
        this.#options.onState({ state: "live" });
        for (const event of parser.push(value)) this.#options.onEvent(event);
      }
    } finally {
      clearTimeout(watchdog);
      stop.removeEventListener("abort", end);
      end();
    }
  }
}

function sleep(ms, stop) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
