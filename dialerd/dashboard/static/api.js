// The public API: every request goes through here, with the key.

export const PREFIX = "/api/v1";

// What the API answered that is no success, in its own words (RFC 9457).
export class Problem extends Error {
  constructor(status, body, retryAfter = null) {
    super(body?.detail ?? (status === 0 ? "The daemon cannot be reached." : `The daemon answered ${status}.`));
    this.status = status;
    this.code = body?.code ?? null;
    this.errors = body?.errors ?? [];
    this.retryAfter = retryAfter;
  }
}

export class Api {
  // onUnauthorized: the key opens nothing any more. onStanding(true | false): a standby answers, or one that dials.
  constructor(key, onUnauthorized = () => {}, onStanding = () => {}) {
    this.key = key;
    this.onUnauthorized = onUnauthorized;
    this.onStanding = onStanding;
  }

  headers(more = {}) {
    return { Authorization: `Bearer ${this.key}`, ...more };
  }

  async send(method, path, { query = {}, json, body, media, signal, idempotency } = {}) {
    const headers = this.headers();
    if (json !== undefined) headers["Content-Type"] = "application/json";
    else if (media) headers["Content-Type"] = media;
    if (idempotency) headers["Idempotency-Key"] = idempotency;
    let response;
    try {
      response = await fetch(address(path, query), { method, headers, signal, body: json === undefined ? body : JSON.stringify(json) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, null);
    }
    this.onStanding(response.headers.has("Dialerd-Standby"));
    if (response.ok) return response;
    throw this.refusal(response.status, await response.text(), response.headers.get("Retry-After"));
  }

  refusal(status, text, retryAfter) {
    if (status === 401) this.onUnauthorized();
    return new Problem(status, parsed(text), retryAfter);
  }

  async get(path, query = {}, signal = undefined) {
    return (await this.send("GET", path, { query, signal })).json();
  }

  async post(path, json = undefined, how = {}) {
    return (await this.send("POST", path, { json, ...how })).json();
  }

  async patch(path, json) {
    return (await this.send("PATCH", path, { json })).json();
  }

  async remove(path) {
    await this.send("DELETE", path);
  }

  // fetch tells nothing of how much was sent; XMLHttpRequest does. Progress is a share, 0 to 1.
  upload(path, body, { media, idempotency, onProgress, signal } = {}) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", address(path));
      for (const [name, value] of Object.entries(this.headers())) request.setRequestHeader(name, value);
      if (media) request.setRequestHeader("Content-Type", media);
      if (idempotency) request.setRequestHeader("Idempotency-Key", idempotency);
      request.upload.onprogress = (event) => { if (event.lengthComputable) onProgress?.(event.loaded / event.total); };
      request.onload = () => {
        if (request.status < 300) resolve(parsed(request.responseText));
        else reject(this.refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      };
      request.onerror = () => reject(new Problem(0, null));
      request.onabort = () => reject(new DOMException("the page was left", "AbortError"));
      signal?.addEventListener("abort", () => request.abort());
      request.send(body);
    });
  }

  // A link cannot carry the key: the file is fetched, and then handed to the browser.
  async download(path, name) {
    const blob = await (await this.send("GET", path)).blob();
    const url = URL.createObjectURL(blob);
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  }
}

export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given).toString();
  return PREFIX + path + (text ? `?${text}` : "");
}

export const step = (id) => encodeURIComponent(id);

// crypto.randomUUID is not there on plain HTTP.
export function fresh() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
