// What was on when, over the last seven days: bars for the eye, sums and a table for everybody else.

import { el, place, setAttribute, setText } from "./dom.js";
import {
  clockTime, count, dateInWords, dayAndClock, dayOfMonth, fullTime, hoursInWords, lengthInWords, momentOf, phaseOf, weekdayInWords,
} from "./words.js";

export const DAYS = 7;
const DAY_MS = 86_400_000;
// A run of a minute must still be seen in a week.
const WIDTH_MIN = 0.25;

// The local midnights that the last seven days begin at, and `now`.
export function windowOf(now) {
  const midnights = [];
  for (let day = DAYS - 1; day >= 0; day -= 1) {
    const at = new Date(now);
    at.setHours(0, 0, 0, 0);
    at.setDate(at.getDate() - day);
    midnights.push(at.getTime());
  }
  const end = new Date(midnights.at(-1));
  end.setDate(end.getDate() + 1);
  return { from: midnights[0], to: end.getTime(), now, midnights };
}

// A target's runs as parts of the window: `{ from, ready, until, open, failed }` in milliseconds, cut to the window.
export function spansOf(target, { from, now }) {
  const spans = [];
  for (const run of target.runs ?? []) {
    const began = momentOf(run.from);
    if (began === null || began > now) continue;
    const until = momentOf(run.until);
    const ended = Math.min(until ?? now, now);
    if (ended < from) continue;
    const ready = momentOf(run.ready);
    spans.push({
      from: Math.max(began, from), ready: ready === null ? null : Math.min(Math.max(ready, from), ended), until: ended,
      open: until === null, failed: ready === null && until !== null, began, whole: ended - began,
    });
  }
  return spans;
}

export function totalOf(spans) {
  return spans.reduce((sum, span) => sum + (span.until - span.from), 0);
}

function spanInWords(span) {
  const end = span.open ? "still on" : dayAndClock(span.until);
  const start = span.failed ? ", never ready"
    : span.ready === null ? ", not ready yet" : span.ready > span.from ? `, ready after ${lengthInWords((span.ready - span.from) / 1000)}` : "";
  return `${dayAndClock(span.began)} to ${end} (${lengthInWords(span.whole / 1000)}${start})`;
}

// One target's bars.
export class Bars {
  element = el("div", { class: "bars", role: "img" });
  #shown = null;

  update(target, frame) {
    const spans = spansOf(target, frame);
    const total = totalOf(spans);
    const key = JSON.stringify([spans, frame.from, Math.floor(frame.now / 60_000)]);
    if (key !== this.#shown) {
      this.#shown = key;
      this.#paint(target, spans, total, frame);
    }
    return { spans, total };
  }

  #paint(target, spans, total, frame) {
    const width = frame.to - frame.from;
    const share = (at) => (100 * (at - frame.from)) / width;
    const bars = spans.map((span) => {
      const bar = el("span", { class: "run", title: spanInWords(span), dataset: { open: span.open ? "yes" : "no", failed: span.failed ? "yes" : "no" } });
      bar.style.left = `${share(span.from)}%`;
      bar.style.width = `${Math.max(WIDTH_MIN, share(span.until) - share(span.from))}%`;
      const length = span.until - span.from;
      const start = span.ready === null ? length : span.ready - span.from;
      if (start > 0 && length > 0) {
        const part = el("span", { class: "run-start" });
        part.style.width = `${(100 * start) / length}%`;
        bar.append(part);
      }
      return bar;
    });
    const lines = frame.midnights.slice(1).map((at) => {
      const line = el("span", { class: "midnight" });
      line.style.left = `${share(at)}%`;
      return line;
    });
    const today = el("span", { class: "now" });
    today.style.left = `${share(frame.now)}%`;
    place(this.element, [...lines, ...bars, today]);
    const said = spans.length === 0 ? "not on in these seven days" : `on for ${hoursInWords(total)} in ${count(spans.length, "run")}`;
    setAttribute(this.element, "aria-label", `${target.target}: ${said}`);
  }
}

export function dayHeads(frame) {
  return el("div", { class: "day-heads", "aria-hidden": "true" }, frame.midnights.map((at) => el("span", {}, weekdayInWords(at), el("span", { class: "day-of-month" }, ` ${dayOfMonth(at)}`))));
}

class WeekRow {
  #name = el("a", { class: "name" });
  #bars = new Bars();
  #sum = el("span", { class: "sum" });
  element = el("li", { class: "week-row" }, this.#name, this.#bars.element, this.#sum);

  update(target, frame) {
    setText(this.#name, target.target);
    setAttribute(this.#name, "title", target.target);
    setAttribute(this.#name, "href", `#/target/${encodeURIComponent(target.target)}`);
    setAttribute(this.element, "data-phase", phaseOf(target));
    const { spans, total } = this.#bars.update(target, frame);
    setText(this.#sum, spans.length ? hoursInWords(total) : "–");
    this.spans = spans;
    this.total = total;
    return this;
  }
}

export class Week {
  title = "The last seven days";
  sentence = "";
  #store;
  #rows = new Map();
  #names = [];
  #heads = el("div", { class: "week-heads" });
  #list = el("ul", { class: "week-rows" });
  #sum = el("p", { class: "week-sum" });
  #quiet = el("input", { type: "checkbox" });
  #empty = el("p", { class: "empty" }, "Nothing was on in these seven days.");
  #words = el("details", { class: "panel in-words" });
  #timer = null;

  constructor(store) {
    this.#store = store;
    this.#words.append(el("summary", {}, "The same in words"));
    this.#words.addEventListener("toggle", () => this.#tell());
    this.#quiet.addEventListener("change", () => this.show());
    const legend = el("p", { class: "legend", "aria-hidden": "true" },
      el("span", { class: "key key-start" }), "starting", el("span", { class: "key key-on" }), "on",
      el("span", { class: "key key-failed" }), "never got ready");
    this.element = el("div", { class: "week" },
      el("div", { class: "week-top" }, legend, el("label", { class: "check" }, this.#quiet, el("span", {}, "also those that were not on"))),
      el("div", { class: "panel week-panel" }, this.#heads, this.#list, this.#empty), this.#words);
  }

  show() {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#paint(), 60_000);
    this.#paint();
  }

  hide() {
    clearInterval(this.#timer);
  }

  update() {
    this.#paint();
  }

  #paint() {
    const frame = windowOf(Date.now());
    place(this.#heads, [el("span"), dayHeads(frame), el("span", { class: "sum" }, "in all")]);
    const shown = [];
    let total = 0;
    for (const name of [...this.#store.targets.keys()].sort()) {
      const target = this.#store.targets.get(name);
      if (!this.#rows.has(name)) this.#rows.set(name, new WeekRow());
      const row = this.#rows.get(name).update(target, frame);
      total += row.total;
      if (row.spans.length > 0 || this.#quiet.checked) shown.push(row);
    }
    for (const name of this.#rows.keys()) {
      if (!this.#store.targets.has(name)) this.#rows.delete(name);
    }
    this.#names = shown;
    place(this.#list, shown.map((row) => row.element));
    this.#empty.hidden = shown.length > 0 || !this.#store.complete;
    const on = shown.filter((row) => row.spans.length > 0).length;
    this.sentence = this.#store.complete ? `${hoursInWords(total)} of light from ${count(on, "lamp")}, since ${dateInWords(frame.from)}.` : "";
    this.#tell();
  }

  // The table; made only where somebody looks at it.
  #tell() {
    if (!this.#words.open) return;
    const rows = this.#names.flatMap((row) => [...row.spans].reverse().map((span, at) => el("tr", {},
      at === 0 ? el("th", { scope: "rowgroup", rowspan: row.spans.length },
        row.element.querySelector(".name").textContent, el("small", {}, hoursInWords(row.total))) : null,
      el("td", {}, el("time", { datetime: new Date(span.began).toISOString(), title: fullTime(span.began) }, dayAndClock(span.began))),
      el("td", {}, span.open ? "still on" : dayAndClock(span.until)),
      el("td", {}, lengthInWords(span.whole / 1000)),
      el("td", {}, span.failed ? "never ready" : span.ready === null ? "not yet" : clockTime(span.ready)))));
    const table = el("table", {}, el("thead", {}, el("tr", {},
      ["Target", "Start began", "Off again", "Length", "Ready"].map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows));
    place(this.#words, [this.#words.firstChild, el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs" }, table)]);
  }
}
