// One target: everything known of it, who holds it, what happened.

import { Buttons, TicketList } from "./actions.js";
import { Problem, get } from "./api.js";
import { Pill, StartBar, holdLine, lampOf, sinceOf } from "./board.js";
import { problemInWords } from "./commands.js";
import { el, icon, place, setAttribute, setIcon, setText, setTime, time } from "./dom.js";
import { Bars, dayHeads, spansOf, totalOf, windowOf } from "./week.js";
import {
  causeInWords, clockWithSeconds, dateInWords, dayAndClock, fullTime, hoursInWords, kindInWords, lastInWords, lengthInWords, momentOf,
  phaseOf, stepInWords,
} from "./words.js";

// Changes that come one upon the other ask for the history once.
const HISTORY_PAUSE_MS = 400;
const RUNS_SHOWN = 10;
const HISTORY_SHOWN = 14;

// What is told elsewhere on the view, or is the same again in another client's words. As JSON it is all there.
const TOLD = new Set(["target", "kind", "phase", "step", "holds", "why", "since", "failure", "paused", "last_outcome", "runs", "actions",
  "instance_status", "observed", "observed_age_seconds", "usual_start_seconds", "wanted", "rev", "lock_status", "holder", "expires_at",
  "overall_status"]);

const LABELS = {
  instance: "Resource", instance_id: "Machine", name: "Name", public_ip: "Public address", processing_status: "Progress", created_at: "Asked for",
  error: "Error", cost: "Cost so far", desiredCount: "Tasks wanted", runningCount: "Tasks running", pendingCount: "Tasks on their way",
  ec2_state: "AWS says", service_state: "Its unit",
  suppressed_until: "Office hours off until", wake_at: "Looked at again", unanswered: "Unanswered effects", template: "Template",
};

export class TargetView {
  title = "";
  sentence = "";
  #store;
  #actions;
  #name = null;
  #rev = null;
  #timer = null;
  #entries = [];
  // Why it cannot be shown, where the door said so.
  #trouble = "";
  #keys = new Map();

  #lamp = icon("lamp-off", "detail-lamp");
  #pill = new Pill();
  #paused = el("p", { class: "note note-paused" });
  #failure = el("p", { class: "note note-failure" });
  #step = el("span", { class: "step" });
  #since = time(null, "for");
  #bar = new StartBar();
  #why = el("p", { class: "why-large" });
  #usual = el("p", { class: "hint" });
  #buttons;
  #ticketList;
  #holds = el("ul", { class: "hold-list" });
  #facts = el("dl", { class: "facts" });
  #bars = new Bars();
  #heads = el("div");
  #total = el("span", { class: "count" });
  #runs = el("ol", { class: "runs" });
  #history = el("ol", { class: "timeline" });
  #all = false;
  #more = el("button", { type: "button", class: "button small more-history", onclick: () => this.#showAll() });
  #raw = el("details", { class: "raw" });
  #missing = el("p", { class: "empty", hidden: true });
  #body;

  constructor(store, tickets, actions) {
    this.#store = store;
    this.#actions = actions;
    this.#buttons = new Buttons((action, target) => actions.act(action, target), { full: true });
    this.#ticketList = new TicketList(tickets);
    this.#raw.append(el("summary", {}, "As JSON"));
    this.#raw.addEventListener("toggle", () => this.#tellRaw());
    const panel = (id, title, ...children) => el("section", { class: "panel", "aria-labelledby": id },
      el("h2", { id }, title), children);
    this.#body = el("div", { class: "detail-grid" },
      el("section", { class: "panel detail-head", "aria-label": "State" },
        this.#lamp,
        el("div", { class: "detail-state" },
          el("p", { class: "state" }, this.#pill.element, this.#step, this.#since),
          this.#bar.element, this.#why, this.#usual, this.#failure, this.#paused, this.#buttons.element, this.#ticketList.element)),
      el("div", { class: "detail-column" },
        panel("holds-title", "Who holds it", this.#holds),
        panel("week-title", ["The last seven days ", this.#total], el("div", { class: "mini-week" }, this.#heads, this.#bars.element), this.#runs),
        el("div", { class: "known" }, panel("facts-title", "What is known", this.#facts, this.#raw))),
      el("div", { class: "detail-column" }, panel("history-title", "What happened", this.#history, this.#more)));
    this.element = el("div", { class: "detail" },
      el("p", { class: "back" }, el("a", { href: "#/" }, icon("back"), "All targets")), this.#missing, this.#body);
  }

  show(name) {
    if (name !== this.#name) {
      this.#name = name;
      this.#rev = null;
      this.#entries = [];
      this.#trouble = "";
      this.#all = false;
      this.#more.hidden = true;
      this.#keys.clear();
      place(this.#history, []);
    }
    this.title = name;
    this.#paint();
    this.#ask();
  }

  hide() {
    clearTimeout(this.#timer);
  }

  update(names) {
    if (names.has(this.#name)) this.#paint();
    else if (!this.#store.targets.has(this.#name)) this.#paint();
  }

  // Which facts are what it was made with depends on its template.
  updateTemplates() {
    this.#paint();
  }

  // Whose holds may be released depends on who asks.
  meet() {
    this.#paint();
  }

  updateTicket(ticket) {
    if (ticket.place === this.#name) this.#ticketList.update(this.#name);
  }

  // The whole of it, since the events may not have come yet.
  async #ask() {
    const name = this.#name;
    if (this.#store.targets.has(name)) return;
    try {
      this.#store.learn(await get(`/v1/targets/${encodeURIComponent(name)}`));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (name !== this.#name || error.status === 401) return;
      const { head, detail } = problemInWords(error);
      this.#trouble = error.status === 404 ? `There is no target ${name}.` : [head, detail].filter(Boolean).join(": ");
      this.#paint();
    }
  }

  async #askHistory() {
    const name = this.#name;
    try {
      const { entries } = await get(`/v1/targets/${encodeURIComponent(name)}/history`);
      if (name !== this.#name) return;
      this.#entries = entries ?? [];
      this.#tellHistory();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (name === this.#name && this.#entries.length === 0 && error.status !== 401) {
        place(this.#history, [el("li", { class: "hint" }, problemInWords(error).head)]);
      }
    }
  }

  #paint() {
    const target = this.#store.targets.get(this.#name);
    const gone = !target && this.#rev !== null;
    this.#missing.hidden = Boolean(target);
    this.#body.hidden = !target && !gone;
    setText(this.#missing, gone ? `${this.#name} is gone. This is what was last known of it.` : this.#trouble || "Looking for it…");
    if (!target) {
      this.#buttons.element.hidden = true;
      return;
    }
    this.sentence = [kindInWords(target.kind), target.instance].filter(Boolean).join(" · ");
    this.#buttons.element.hidden = false;
    this.#tellState(target);
    this.#once("holds", [target.holds, target.actions, this.#actions.holder, this.#actions.anyone], () => this.#tellHolds(target));
    const parameters = this.#store.templates.get(target.template)?.parameters.map(({ name }) => name) ?? [];
    this.#once("facts", [{ ...target, runs: null, observed_age_seconds: null }, parameters], () => this.#tellFacts(target, parameters));
    this.#once("runs", target.runs, () => this.#tellRuns(target));
    this.#tellWeek(target);
    this.#tellRaw();
    if (this.#rev !== target.rev) {
      const first = this.#rev === null;
      this.#rev = target.rev;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#askHistory(), first ? 0 : HISTORY_PAUSE_MS);
    }
  }

  // Paints a part again only where what it tells has changed: what is in it keeps its focus.
  #once(part, value, paint) {
    const key = JSON.stringify(value ?? null);
    if (this.#keys.get(part) === key) return;
    this.#keys.set(part, key);
    paint();
  }

  #tellState(target) {
    const phase = phaseOf(target);
    setIcon(this.#lamp, lampOf(target));
    setAttribute(this.#lamp, "data-phase", phase);
    this.#pill.update(target);
    setText(this.#step, stepInWords(target.step));
    setTime(this.#since, sinceOf(target));
    this.#bar.update(target);
    setText(this.#why, String(target.why ?? ""));
    // What the note below says in full is not said twice.
    this.#why.hidden = Boolean(target.failure) && String(target.why).includes(target.failure.message);
    const usual = target.usual_start_seconds;
    this.#usual.hidden = !usual || !["starting", "off", "failed"].includes(phase);
    setText(this.#usual, usual ? `A start usually takes about ${lengthInWords(usual)}.` : "");
    const { failure, paused } = target;
    this.#failure.hidden = !failure;
    this.#once("failure", failure, () => place(this.#failure, failure ? [el("strong", {}, `${failure.cause}: ${causeInWords(failure.cause)}. `),
      failure.message, " ", el("span", { class: "nowrap" }, "(", time(failure.at, "ago"), ")")] : []));
    this.#paused.hidden = !paused;
    this.#once("paused", paused, () => place(this.#paused, paused ? [el("strong", {}, `Paused by ${paused.by}`), paused.reason ? `: ${paused.reason}` : "",
      " ", el("span", { class: "nowrap" }, "(", time(paused.at, "ago"), ")")] : []));
    this.#buttons.update(target);
    this.#ticketList.update(target.target);
  }

  #tellHolds(target) {
    const holds = target.holds ?? [];
    const mayStop = (target.actions ?? []).includes("stop");
    const lines = holds.map((hold) => {
      const mine = hold.holder === (this.#actions.holder || "default");
      const asked = !["adopted", "window"].includes(hold.kind);
      const release = mayStop && asked && (this.#actions.anyone || mine)
        ? el("button", {
          type: "button", class: "button small", "aria-label": `Release the hold of ${hold.holder}`,
          onclick: () => this.#actions.release(this.#store.targets.get(this.#name), hold.holder),
        }, "Release") : null;
      return el("li", {}, holdLine(hold), release);
    });
    place(this.#holds, lines.length > 0 ? lines : [el("li", { class: "hint" }, "Nobody. It stays off, or goes out.")]);
  }

  #tellFacts(target, parameters) {
    const facts = [];
    const add = (label, ...value) => facts.push(el("div", {}, el("dt", {}, label), el("dd", {}, value)));
    add("Wanted", target.wanted ? "yes" : "no");
    for (const [field, value] of Object.entries(target)) {
      if (TOLD.has(field) || (field === "instance" && value === target.instance_id) || value === null || value === undefined || value === "" || value === "n/a" || (Array.isArray(value) && value.length === 0)) continue;
      const label = parameters.includes(field) ? el("code", {}, field) : (LABELS[field] ?? field.replaceAll("_", " "));
      add(label, ...factOf(field, value));
    }
    const { observed } = target;
    if (observed?.at) add("Last observed", time(observed.at, "ago"));
    const last = target.last_outcome;
    if (last) {
      const { head, detail } = lastInWords(last);
      add("Last outcome", head, detail ? `: ${detail}` : "", " ", el("span", { class: "nowrap" }, "(", time(last.at, "ago"), ")"));
    }
    add("Version", el("span", { class: "mono" }, String(target.rev ?? "")));
    place(this.#facts, facts);
  }

  #tellWeek(target) {
    const frame = windowOf(Date.now());
    this.#bars.update(target, frame);
    setText(this.#total, hoursInWords(totalOf(spansOf(target, frame))));
    this.#once("heads", frame.from, () => place(this.#heads, [dayHeads(frame)]));
  }

  #tellRuns(target) {
    const runs = [...(target.runs ?? [])].reverse().slice(0, RUNS_SHOWN);
    place(this.#runs, runs.map((run) => {
      const from = momentOf(run.from);
      const ready = momentOf(run.ready);
      const until = momentOf(run.until);
      if (from === null) return null;
      const parts = [
        until !== null ? lengthInWords((until - from) / 1000) : ready !== null ? "still on" : null,
        ready !== null ? `ready after ${lengthInWords((ready - from) / 1000)}` : until !== null ? "never ready" : "not ready yet",
      ];
      return el("li", { dataset: { failed: ready === null && until !== null ? "yes" : "no" } },
        el("time", { datetime: run.from, title: fullTime(from) }, dayAndClock(from)), el("span", {}, parts.filter(Boolean).join(", ")));
    }).filter(Boolean));
  }

  #tellHistory() {
    let day = null;
    const lines = [];
    const entries = [...this.#entries].reverse();
    const shown = this.#all ? entries : entries.slice(0, HISTORY_SHOWN);
    this.#more.hidden = shown.length === entries.length;
    setText(this.#more, `Show all ${entries.length}`);
    for (const entry of shown) {
      const at = momentOf(entry.at);
      const date = at === null ? "" : dateInWords(at);
      if (date !== day) lines.push(el("li", { class: "day" }, date));
      day = date;
      lines.push(el("li", { class: "event" },
        el("time", { datetime: at === null ? null : entry.at, title: at === null ? null : fullTime(at) }, at === null ? "" : clockWithSeconds(at)),
        whatHappened(String(entry.what ?? ""))));
    }
    place(this.#history, lines.length > 0 ? lines : [el("li", { class: "hint" }, "Nothing yet.")]);
  }

  #showAll() {
    this.#all = true;
    this.#tellHistory();
  }

  #tellRaw() {
    if (!this.#raw.open) return;
    const target = this.#store.targets.get(this.#name);
    const text = JSON.stringify(target, null, 2);
    if (this.#raw.lastChild.nodeName !== "PRE") this.#raw.append(el("pre", { tabindex: 0 }));
    setText(this.#raw.lastChild, text);
  }
}

// An entry names the command by its id; those that were made for it say nothing to a person.
function whatHappened(what) {
  const [, id] = /\(([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\)/.exec(what) ?? [];
  return el("span", { class: "event-what", title: id ? `command ${id}` : null }, id ? what.replace(` (${id})`, "") : what);
}

function factOf(field, value) {
  if (typeof value === "object") return [el("code", {}, JSON.stringify(value))];
  if (/_at$|_until$/.test(field) && momentOf(value) !== null) {
    const at = momentOf(value);
    return [dayAndClock(at), " ", el("span", { class: "nowrap" }, "(", time(value, at > Date.now() ? "in" : "ago"), ")")];
  }
  if (["instance", "instance_id", "public_ip", "name"].includes(field)) return [el("span", { class: "mono" }, String(value))];
  return [String(value)];
}
