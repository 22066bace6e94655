// The waiting room: wakes a target, shows how far it is, and moves on when it is on.
//
// *Invariants.* Opening the page wakes nothing, its script does: a preview of the link costs no machine. It moves on
// only to where the door says, in its state, that this room may lead; what the address asks for is only passed on.
// The link's code goes to this door alone and is never kept. (A link of an earlier release has a token in its place.)

import { pause, pauseBefore } from "./api.js";
import { causeInWords, lengthInWords, phaseOf, stepInWords } from "./words.js";

const POLL_MS = 1500;
// After so many questions without an answer the person is told, and asked.
const SILENT_MAX = 5;
// A failure that was there before this wait asked is an older one's, as long as a worker may not have come by yet.
const STALE_MS = 15_000;

const byId = (id) => document.getElementById(id);
const room = byId("room");

const asked = new URLSearchParams(location.search);
const path = location.pathname.replace(/\/+$/, "");
const name = decoded(path.split("/").at(-1));
const code = asked.get("code");
const token = code === null ? asked.get("token") : null;
const query = `?to=${encodeURIComponent(asked.get("to") ?? "")}${code === null ? "" : `&code=${encodeURIComponent(code)}`}`;
const headers = { Accept: "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };

// The last state, and when it came: between two of them the clock goes on by itself.
let last = null;
let lastAt = 0;
// It was seen on its way: off again means that somebody put it out.
let wasStarting = false;
// What was there when this wait began, and when that was.
let firstSince = null;
let firstAt = 0;
// Which wait this is; an older one that still has an answer to come says nothing.
let turn = 0;

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}
class Unreached extends Error {
  constructor(message, seconds) {
    super(message);
    this.seconds = seconds;
  }
}

async function ask(method, where) {
  let response;
  try {
    response = await fetch(`${path}${where}${query}`, { method, headers, cache: "no-store", signal: AbortSignal.timeout?.(15_000) });
  } catch {
    throw new Unreached("The door cannot be reached just now");
  }
  if (response.ok) {
    try {
      return await response.json();
    } catch {
      throw new Unreached("The door's answer broke off");
    }
  }
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's page, perhaps.
  }
  const said = [body.title, body.detail].filter(Boolean).join(": ");
  if (response.status === 429 || response.status >= 500) {
    throw new Unreached(said || `The door answers ${response.status}`, Number(response.headers.get("Retry-After")));
  }
  if (response.status === 410) throw new Refused(body.detail || said, 410);
  throw new Refused(said || `The door answers ${response.status}`, response.status);
}

async function wait() {
  turn += 1;
  const mine = turn;
  begin();
  let silent = 0;
  let woken = false;
  while (mine === turn) {
    try {
      const state = woken ? await ask("GET", "/state") : await ask("POST", "");
      if (mine !== turn) return;
      woken = true;
      silent = 0;
      hide(byId("trouble"));
      hide(byId("again"));
      if (tell(state)) return;
      await pause(POLL_MS);
    } catch (error) {
      if (mine !== turn) return;
      if (error instanceof Refused) return refused(error);
      if (!(error instanceof Unreached)) throw error;
      silent += 1;
      say(byId("step"), "Asking again…");
      if (silent >= SILENT_MAX) {
        trouble(`${error.message}. It is asked again and again; a look at the network may help.`);
        byId("again").hidden = false;
      }
      await pause(error.seconds > 0 ? Math.min(error.seconds, 30) * 1000 : pauseBefore(silent, { most: 8000 }));
    }
  }
}

function begin() {
  last = null;
  wasStarting = false;
  firstSince = null;
  room.dataset.state = "waiting";
  hide(byId("trouble"));
  hide(byId("again"));
  hide(byId("onward"));
  say(byId("title"), `Lighting ${name}`);
  say(byId("step"), "Knocking at the door");
  document.title = `Lighting ${name} · Lamplighter`;
  draw();
}

// Shows a state; true where there is nothing more to wait for.
function tell(state) {
  last = state;
  lastAt = Date.now();
  if (firstSince === null) {
    firstSince = state.since ?? "";
    firstAt = lastAt;
  }
  const phase = phaseOf(state);
  if (state.ready) {
    moveOn(state);
    return true;
  }
  const older = state.since === firstSince && lastAt - firstAt < STALE_MS;
  if (state.failed && !older) {
    fail(`${state.target} did not start`, failureInWords(String(state.failed)));
    return true;
  }
  if (phase === "starting") wasStarting = true;
  else if (wasStarting && ["off", "stopping"].includes(phase)) {
    fail(`${state.target} went out again`, state.why || "Somebody put it out while it was starting.");
    return true;
  }
  say(byId("step"), inWords(state, phase));
  draw();
  return false;
}

// `unit-failed: …` with the cause's words beside it.
function failureInWords(text) {
  const [, cause] = /^([a-z-]+)(?=: )/.exec(text) ?? [];
  const words = cause ? causeInWords(cause) : "";
  return words && words !== cause ? `${words[0].toUpperCase()}${words.slice(1)}. ${text}` : text;
}

function inWords(state, phase) {
  if (phase === "starting") {
    const step = stepInWords(state.step);
    return step ? step[0].toUpperCase() + step.slice(1) : "Starting";
  }
  if (phase === "stopping") return "It is still going out; it is lit again right after";
  if (phase === "on") return "It is on; a last look whether all is well";
  return "Asked; waiting for a lamplighter to come by";
}

function draw() {
  const bar = byId("progress");
  const waiting = room.dataset.state === "waiting";
  bar.hidden = !waiting || !last;
  if (!waiting) return;
  const elapsed = last ? Number(last.elapsed_seconds ?? 0) + (Date.now() - lastAt) / 1000 : 0;
  const usual = Number(last?.usual_seconds) || null;
  // It nears the end without ever claiming it: only the door says when it is on.
  const share = usual ? Math.min(0.97, 1 - Math.exp((-1.6 * elapsed) / usual)) : null;
  if (share === null) {
    bar.removeAttribute("aria-valuenow");
    byId("fill").style.transform = "";
  } else {
    bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    byId("fill").style.transform = `scaleX(${share.toFixed(3)})`;
  }
  room.style.setProperty("--lit", String((share ?? Math.min(0.6, elapsed / 120)) * 0.8));
  if (!last) return say(byId("time"), "");
  const so = `${lengthInWords(elapsed)} so far`;
  const about = !usual ? "" : elapsed > 1.5 * usual ? `, longer than usual (about ${lengthInWords(usual)})` : `; it usually takes about ${lengthInWords(usual)}`;
  return say(byId("time"), so + about);
}

function moveOn(state) {
  const to = destination(state);
  if (!to) return fail("It is on, and leads nowhere", "The door named no address to go to.");
  room.dataset.state = "ready";
  room.style.setProperty("--lit", "1");
  hide(byId("progress"));
  say(byId("title"), `${state.target} is on`);
  say(byId("step"), "Taking you there");
  say(byId("time"), "");
  const link = byId("onward");
  link.href = to;
  link.hidden = false;
  location.replace(to);
  return undefined;
}

// Where the door says that it leads: a page, never a script.
function destination(state) {
  try {
    const to = new URL(state.to);
    return ["http:", "https:"].includes(to.protocol) ? to.href : null;
  } catch {
    return null;
  }
}

function refused(error) {
  if (error.status !== 410) return fail("This link does not open the door", error.message);
  fail("This link has expired", `${error.message}. Ask whoever gave it to you for a new one.`);
  // It stays expired.
  hide(byId("again"));
  return undefined;
}

function fail(title, detail) {
  turn += 1;
  room.dataset.state = "failed";
  hide(byId("progress"));
  say(byId("title"), title);
  say(byId("step"), "");
  say(byId("time"), "");
  document.title = `${title} · Lamplighter`;
  trouble(detail);
  byId("again").hidden = false;
}

function trouble(text) {
  byId("trouble").hidden = false;
  say(byId("trouble"), text);
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function hide(element) {
  element.hidden = true;
}

byId("again").addEventListener("click", wait);
// Who comes back by the browser's button finds the page as it was left: it looks again.
addEventListener("pageshow", (event) => {
  if (event.persisted) wait();
});
setInterval(draw, 500);
wait();
