// What the page knows: the targets, kept true by the door's events, and how good the line is.
//
// *Invariant.* A target is changed only by what the door said of it. A button never paints what it hopes for.

import { Problem, events, get, pause, pauseBefore } from "./api.js";

// Where the events do not come through, the list is asked this often.
const POLL_MS = 10_000;
// A launch changes its machine several times within a moment; the templates are asked about once.
const TEMPLATES_PAUSE_MS = 500;
// A line that held this long was a good one: the next pause begins small again.
const GOOD_LINE_MS = 10_000;

export class Store extends EventTarget {
  targets = new Map();
  // What machines can be made from, with how many places of each are taken; by name.
  templates = new Map();
  me = null;
  // Whether the first full picture has come.
  complete = false;
  // `connecting`, `live`, `reconnecting`, `polling`, `refused` (no token that will do), `denied` (it may not look).
  line = "connecting";
  #changed = new Set();
  #due = false;
  #stop = null;
  #templatesDue = null;

  // Begins, or begins anew with another token.
  begin() {
    this.#stop?.abort();
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    this.#setLine("connecting");
    this.#follow(signal).catch((error) => {
      if (!signal.aborted) throw error;
    });
  }

  end(line) {
    this.#stop?.abort();
    this.#stop = null;
    this.#setLine(line);
  }

  // Everything known goes, since another token may see less.
  forget() {
    for (const name of this.targets.keys()) this.#changed.add(name);
    this.targets.clear();
    this.templates.clear();
    this.complete = false;
    this.#tellSoon();
  }

  may(right) {
    return Boolean(this.me?.may?.includes(right) || this.me?.may?.includes("admin"));
  }

  async #follow(signal) {
    let tries = 0;
    for (;;) {
      const from = Date.now();
      let asked = 0;
      try {
        await this.#meet(signal);
        this.#askTemplatesSoon(0);
        await this.#listen(signal, () => { tries = 0; });
      } catch (error) {
        if (signal.aborted) throw error;
        if (!(error instanceof Problem)) throw error;
        if (error.status === 401) return;
        if (error.status === 403) {
          this.complete = true;
          this.#setLine("denied");
          this.#tellSoon();
          return;
        }
        asked = 1000 * (error.retryAfter ?? 0);
      }
      if (Date.now() - from > GOOD_LINE_MS) tries = 0;
      this.#setLine("reconnecting");
      // Twice without events: somebody between holds them back, or the door is down. The list tells which.
      if (tries >= 2) await this.#poll(signal);
      await pause(Math.max(asked, pauseBefore(tries, { most: POLL_MS })), signal);
      tries += 1;
    }
  }

  async #meet(signal) {
    this.me = await get("/v1/me", { signal });
    this.dispatchEvent(new Event("me"));
  }

  async #listen(signal, onLive) {
    const seen = new Set();
    let ready = false;
    await events("/v1/events", (name, data) => {
      if (name === "target") {
        const target = read(data);
        if (!target) return;
        seen.add(target.target);
        this.#put(target);
      } else if (name === "gone") {
        const gone = read(data);
        if (gone) this.#drop(gone.target);
      } else if (name === "ready") {
        if (ready) return;
        ready = true;
        for (const known of this.targets.keys()) {
          if (!seen.has(known)) this.#drop(known);
        }
        this.complete = true;
        this.#setLine("live");
        this.#tellSoon();
        onLive();
      }
    }, { signal });
  }

  async #poll(signal) {
    try {
      this.#askTemplatesSoon(0);
      const { targets } = await get("/v1/targets", { signal });
      const seen = new Set(targets.map((target) => target.target));
      for (const target of targets) this.#put(target);
      for (const known of this.targets.keys()) {
        if (!seen.has(known)) this.#drop(known);
      }
      this.complete = true;
      this.#setLine("polling");
      this.#tellSoon();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
    }
  }

  #put(target) {
    const known = this.targets.get(target.target);
    // The same line gives them in order; a list that was asked meanwhile may be older.
    if (known && known.rev > target.rev && known.since >= target.since) return;
    this.targets.set(target.target, target);
    this.#changed.add(target.target);
    if (target.template && known?.phase !== target.phase) this.#askTemplatesSoon();
    this.#tellSoon();
  }

  // What a view asked by itself is as good as what the events say.
  learn(target) {
    this.#put(target);
  }

  #drop(name) {
    if (this.targets.get(name)?.template) this.#askTemplatesSoon();
    if (this.targets.delete(name)) {
      this.#changed.add(name);
      this.#tellSoon();
    }
  }

  // No event tells how many places of a template are taken: it is asked when one of its machines comes, goes or moves.
  #askTemplatesSoon(milliseconds = TEMPLATES_PAUSE_MS) {
    clearTimeout(this.#templatesDue);
    this.#templatesDue = setTimeout(() => this.#askTemplates(), milliseconds);
  }

  async #askTemplates() {
    const signal = this.#stop?.signal;
    if (!signal) return;
    try {
      const { templates } = await get("/v1/templates", { signal });
      this.templates = new Map(templates.map((one) => [one.template, one]));
      this.dispatchEvent(new Event("templates"));
    } catch (error) {
      // What was known stays; the next machine that moves, or the next line to the door, asks again.
      if (!(error instanceof Problem) && !signal.aborted) throw error;
    }
  }

  #setLine(line) {
    if (this.line === line) return;
    this.line = line;
    this.dispatchEvent(new Event("line"));
  }

  // A thousand events that come at once are painted once.
  #tellSoon() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      const names = this.#changed;
      this.#changed = new Set();
      this.dispatchEvent(new CustomEvent("targets", { detail: names }));
    });
  }
}

function read(data) {
  try {
    const value = JSON.parse(data);
    return typeof value?.target === "string" ? value : null;
  } catch {
    return null;
  }
}
