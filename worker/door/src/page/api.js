// The door's API: the token, requests, problems, and events.
//
// *Invariant.* The token leaves this page only in the `Authorization` header of a request to this origin: every path
// that is asked begins with a single slash.

const KEY = "lamplighter.token";

// A browser may refuse storage; then the token lives as long as the page.
let memory = null;

function storages() {
  const found = [];
  for (const name of ["sessionStorage", "localStorage"]) {
    try {
      found.push(window[name]);
    } catch {
      // Not allowed here.
    }
  }
  return found;
}

export function token() {
  for (const storage of storages()) {
    const kept = storage.getItem(KEY);
    if (kept) return kept;
  }
  return memory;
}

export function keepToken(text, remember) {
  forgetToken();
  memory = text;
  try {
    (remember ? window.localStorage : window.sessionStorage).setItem(KEY, text);
  } catch {
    // In memory, then.
  }
}

export function forgetToken() {
  memory = null;
  for (const storage of storages()) storage.removeItem(KEY);
}

// `#token=T`: taken, and gone from the address before anything else reads it.
export function takeTokenFromAddress() {
  const found = /^#token=([^&]+)/.exec(location.hash);
  if (!found) return false;
  let text = found[1];
  try {
    text = decodeURIComponent(text);
  } catch {
    // As it stands, then.
  }
  keepToken(text, false);
  history.replaceState(null, "", `${location.pathname}${location.search}#/`);
  return true;
}

// What the door answered instead, or that it could not be asked (`status` 0).
export class Problem extends Error {
  constructor(status, body, retryAfter = null) {
    const title = body?.title ?? (status === 0 ? "The door cannot be reached" : `HTTP ${status}`);
    super(body?.detail ? `${title}: ${body.detail}` : title);
    this.status = status;
    this.title = title;
    this.detail = body?.detail ?? "";
    this.retryAfter = retryAfter;
  }
  // Whether the same request may do later.
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

let onRefused = () => {};

// Who is told that the token will not do.
export function whenRefused(listener) {
  onRefused = listener;
}

async function problemOf(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // A proxy's page, perhaps.
  }
  const seconds = Number(response.headers.get("Retry-After"));
  return new Problem(response.status, body, seconds > 0 ? Math.min(seconds, 60) : null);
}

async function request(method, path, { body, headers = {}, signal, accept = "application/json" } = {}) {
  if (!/^\/(?!\/)/.test(path)) throw new Error(`not a path of this door: ${path}`);
  const sent = { Accept: accept, ...headers };
  const held = token();
  if (held) sent.Authorization = `Bearer ${held}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers: sent, signal, cache: "no-store", credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "" });
  }
  if (response.status === 401) onRefused(held);
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function bodyOf(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "The door's answer broke off" });
  }
}

export async function get(path, options) {
  return bodyOf(await request("GET", path, options));
}

export async function post(path, body, options = {}) {
  return bodyOf(await request("POST", path, { ...options, body }));
}

// Sends a command: the door's answer, and the path of this door at which its outcome is asked for.
export async function postCommand(command, key) {
  const response = await request("POST", "/v1/commands", { body: command, headers: { "Idempotency-Key": key } });
  const said = await bodyOf(response);
  // The door remembers nothing: that the command was sent, and when, stands in this address.
  const location = response.headers.get("Location") ?? "";
  const path = location.startsWith("/v1/commands/") ? location : `/v1/commands/${encodeURIComponent(said.id ?? key)}`;
  return { said, path };
}

// `crypto.randomUUID` is there on https and on this machine alone; chance is there everywhere.
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    }, { once: true });
  });
}

// The pause before try `n` (from 0): growing, and jittered by half, so that a door that comes back is not met by
// everybody at once.
export function pauseBefore(n, { first = 500, most = 30_000 } = {}) {
  const full = Math.min(most, first * 2 ** Math.min(n, 16));
  return full / 2 + Math.random() * (full / 2);
}

// Nothing for so long, though the door sends a comment every 15 s: the line is dead.
const SILENCE_MS = 40_000;

// Server-sent events by fetch, since an EventSource cannot send the token. Calls `onEvent(name, data)` for each one;
// returns when the door ends the stream, throws a `Problem` when it breaks.
export async function events(path, onEvent, { onOpen = () => {}, signal } = {}) {
  const silence = new AbortController();
  const stop = () => silence.abort();
  signal?.addEventListener("abort", stop, { once: true });
  let timer = setTimeout(stop, SILENCE_MS);
  try {
    const response = await request("GET", path, { accept: "text/event-stream", signal: silence.signal });
    if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) {
      throw new Problem(0, { title: "The events are no event stream" });
    }
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
      kept = deliver(kept + value, onEvent);
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (signal?.aborted) throw error;
    throw new Problem(0, { title: "The line to the door broke" });
  } finally {
    clearTimeout(timer);
    silence.abort();
    signal?.removeEventListener("abort", stop);
  }
}

// Delivers the whole events of `text` and gives back what is left of it.
export function deliver(text, onEvent) {
  const blocks = text.replaceAll("\r\n", "\n").split("\n\n");
  const rest = blocks.pop();
  for (const block of blocks) {
    let name = "message";
    const data = [];
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") name = value;
      if (field === "data") data.push(value);
    }
    if (data.length > 0 || name !== "message") onEvent(name, data.join("\n"));
  }
  return rest;
}
