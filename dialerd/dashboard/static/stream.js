// Server-Sent Events (WHATWG HTML, 9.2) by fetch: EventSource cannot send a key. A lost stream is taken up again from
// the last event that came, so that nothing is missed and nothing comes twice.

import { address } from "/dashboard/api.js";

const FIRST_WAIT = 2000;
const LONGEST_WAIT = 30000;
const SILENCE = 45000; // the daemon sends a comment every 15 s; three of them missing is a dead link

// onEvent({kind, id, data}) for each event; onLink(true | false) when the stream comes and goes. Ends with the signal.
export async function follow(api, path, { onEvent, onLink, signal }) {
  let last = null;
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      last = await once(api, path, last, { onEvent: (event) => { wait = FIRST_WAIT; last = event.id; onEvent(event); }, onLink, signal });
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401 || error.status === 403 || error.status === 404) throw error;
      if (error.status === 400) last = null; // the store went back behind what we saw: follow from now on
    }
    if (signal.aborted) return;
    onLink(false);
    await pause(wait, signal);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

async function once(api, path, last, { onEvent, onLink, signal }) {
  const link = new AbortController();
  const end = () => link.abort();
  signal.addEventListener("abort", end);
  let watch = setTimeout(end, SILENCE);
  try {
    const headers = api.headers(last === null ? {} : { "Last-Event-ID": last });
    const response = await fetch(address(path), { headers, signal: link.signal });
    if (!response.ok) throw api.refusal(response.status, await response.text(), null);
    onLink(true);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new Parser(last, onEvent);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return parser.last;
      clearTimeout(watch);
      watch = setTimeout(end, SILENCE);
      parser.take(value);
      last = parser.last;
    }
  } finally {
    clearTimeout(watch);
    signal.removeEventListener("abort", end);
  }
}

// Lines end with \n, as the daemon writes them; an event ends with an empty line.
export class Parser {
  constructor(last, onEvent) {
    this.last = last;
    this.onEvent = onEvent;
    this.rest = "";
    this.clear();
  }

  clear() {
    this.kind = "message";
    this.data = [];
    this.id = this.last;
  }

  take(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      this.last = this.id; // only now: what comes without its empty line was cut off, and is asked for again
      if (this.data.length > 0) this.onEvent({ kind: this.kind, id: this.last, data: JSON.parse(this.data.join("\n")) });
      this.clear();
      return;
    }
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (name === "event") this.kind = value;
    else if (name === "id") this.id = value;
    else if (name === "data") this.data.push(value ?? "");
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); });
  });
}
