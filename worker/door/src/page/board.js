// The targets: a street of lamps, a list of them, and a way to find one of a thousand.

import { Buttons, TicketList } from "./actions.js";
import { placeOf } from "./commands.js";
import { el, icon, place, setAttribute, setIcon, setText, setTime, time } from "./dom.js";
import { PHASES, count, holdKindInWords, kindInWords, lastInWords, phaseOf, stepInWords } from "./words.js";

// More lamps than this are no street but a blur.
const STREET_MAX = 48;
// So many holds are named in a row; the detail view has them all.
const HOLDS_SHOWN = 3;

const CHIPS = [["all", "All"], ["on", "On"], ["starting", "Starting"], ["stopping", "Stopping"], ["off", "Off"],
  ["failed", "Failed"], ["paused", "Paused"]];

// The lamp that stands for a target.
export function lampOf(target) {
  return `lamp-${phaseOf(target)}`;
}

// Since when it is as it is; of what no worker has looked at nobody knows.
export function sinceOf(target) {
  return target.rev > 0 ? target.since : null;
}

// Its phase as a shape, a colour and a word.
export class Pill {
  #shape = icon("shape-off", "shape");
  #word = el("span", {});
  element = el("span", { class: "pill" }, this.#shape, this.#word);

  update(target) {
    const phase = phaseOf(target);
    setAttribute(this.element, "data-phase", phase);
    setIcon(this.#shape, `shape-${phase}`);
    setText(this.#word, String(target.phase ?? "unknown"));
  }
}

// A thin bar for how far a start is, by how long it usually takes.
export class StartBar {
  #fill = el("span", {});
  element = el("div", { class: "start-bar", "data-ticks": "", "aria-hidden": "true" }, this.#fill);
  #since = null;
  #usual = null;

  constructor() {
    this.element.tick = (now) => this.#tick(now);
  }

  update(target) {
    this.#since = Date.parse(target.since);
    this.#usual = target.usual_start_seconds;
    this.element.hidden = phaseOf(target) !== "starting";
    this.#tick(Date.now());
  }

  #tick(now) {
    if (this.element.hidden) return;
    setAttribute(this.element, "data-known", Boolean(this.#usual));
    // It nears the end without ever claiming it: only the door says when it is on.
    const share = this.#usual ? 1 - Math.exp((-1.6 * (now - this.#since)) / (this.#usual * 1000)) : 1;
    this.#fill.style.transform = this.#usual ? `scaleX(${Math.max(0, Math.min(0.97, share)).toFixed(3)})` : "";
  }
}

export function holdLine(hold, now = Date.now()) {
  const ahead = Date.parse(hold.from) > now;
  return el("span", { class: "hold", title: holdKindInWords(hold.kind) },
    icon("flame", "icon small"),
    el("strong", {}, hold.holder),
    hold.reason ? el("span", { class: "hold-reason" }, hold.reason) : null,
    ahead ? el("span", { class: "hold-end" }, "begins ", time(hold.from, "in")) : null,
    hold.until ? el("span", { class: "hold-end" }, time(hold.until, "until"))
      : el("span", { class: "hold-end" }, holdKindInWords(hold.kind)));
}

// What tells one machine of a template from another: what it was made with, but for what is the same by default.
function madeWith(target, template) {
  const told = (template?.parameters ?? []).filter(({ name, default: given }) => target[name] && target[name] !== given);
  return told.map(({ name }) => [name, String(target[name])]);
}

// A hash is known by its first digits; the detail view has it whole.
function shortened(text) {
  return text.length > 20 ? `${text.slice(0, 16)}…` : text;
}

class Row {
  #lamp = icon("lamp-off", "lamp");
  #name = el("a", { class: "name" });
  #kind = el("span", { class: "kind" });
  #pill = new Pill();
  #paused = el("span", { class: "pill", dataset: { phase: "paused" } }, icon("shape-paused", "shape"), "paused");
  #step = el("span", { class: "step" });
  #since = time(null, "for");
  #bar = new StartBar();
  #why = el("p", { class: "why" });
  #holds = el("div", { class: "holds" });
  #last = el("p", { class: "last" });
  #buttons;
  #tickets;
  #holdsShown = null;
  #lastShown = null;

  constructor(act, tickets) {
    this.#buttons = new Buttons(act);
    this.#tickets = new TicketList(tickets);
    this.element = el("li", { class: "row" },
      this.#lamp,
      el("div", { class: "row-name" }, el("h3", {}, this.#name), this.#kind),
      el("div", { class: "row-state" },
        el("p", { class: "state" }, this.#pill.element, this.#paused, this.#step, this.#since),
        this.#bar.element, this.#why, this.#last),
      this.#holds,
      this.#buttons.element,
      this.#tickets.element);
  }

  // `template` is that of a launched machine, where the door has told of it.
  update(target, template) {
    this.target = target;
    const phase = phaseOf(target);
    setAttribute(this.element, "data-phase", phase);
    setAttribute(this.element, "data-target", target.target);
    setIcon(this.#lamp, lampOf(target));
    setText(this.#name, target.target);
    setAttribute(this.#name, "href", `#/target/${encodeURIComponent(target.target)}`);
    const made = madeWith(target, template);
    const about = target.template ? [...made.map(([name, value]) => `${name} ${shortened(value)}`), target.public_ip ?? target.instance_id]
      : [kindInWords(target.kind)];
    setText(this.#kind, about.filter(Boolean).join(" · "));
    setAttribute(this.#kind, "title", made.map(([name, value]) => `${name}: ${value}`).join("\n") || null);
    this.#pill.update(target);
    this.#paused.hidden = !target.paused;
    setAttribute(this.#paused, "title", target.paused ? `by ${target.paused.by}${target.paused.reason ? `: ${target.paused.reason}` : ""}` : null);
    setText(this.#step, stepInWords(target.step));
    setTime(this.#since, sinceOf(target));
    this.#bar.update(target);
    const failure = phase === "failed" || target.failure ? target.failure : null;
    setText(this.#why, failure ? `${failure.cause}: ${failure.message}` : String(target.why ?? ""));
    setAttribute(this.#why, "class", failure ? "why bad" : "why");
    this.#tellHolds(target);
    this.#tellLast(target);
    this.#buttons.update(target);
    this.updateTickets();
  }

  updateTickets() {
    this.#tickets.update(this.target.target);
  }

  #tellHolds(target) {
    const key = JSON.stringify(target.holds ?? []);
    if (key === this.#holdsShown) return;
    this.#holdsShown = key;
    const holds = target.holds ?? [];
    const lines = holds.slice(0, HOLDS_SHOWN).map((hold) => holdLine(hold));
    if (holds.length > HOLDS_SHOWN) {
      lines.push(el("a", { class: "hold-more", href: this.#name.getAttribute("href") }, `and ${holds.length - HOLDS_SHOWN} more`));
    }
    place(this.#holds, lines);
  }

  #tellLast(target) {
    const last = target.last_outcome;
    const key = last ? `${last.at} ${last.command}` : "";
    if (key === this.#lastShown) return;
    this.#lastShown = key;
    this.#last.hidden = !last;
    if (!last) return;
    const { head, detail } = lastInWords(last);
    place(this.#last, [time(last.at, "ago"), el("span", { title: detail }, `: ${head}`)]);
  }
}

// Targets under one heading; the heading of those that the fleet names is for those who do not see.
class Group {
  list = el("ul", { class: "rows" });
  rows = [];

  constructor() {
    this.element = el("section", { "aria-label": "Targets" }, el("h2", { class: "unseen" }, "Of the fleet"), this.list);
  }

  arrange(rows) {
    this.rows = rows;
    place(this.list, rows.map((row) => row.element));
  }

  filter() {
    this.element.hidden = this.rows.every((row) => row.element.hidden);
  }
}

// The machines of a template, how many of its places they take, and a way to a new one.
class TemplateGroup extends Group {
  #name;
  #template = null;
  #taken = el("span", { class: "count" });
  #none = el("p", { class: "none" }, "None at the moment.");
  #tickets;
  #new;

  constructor(name, tickets, create) {
    super();
    this.#name = name;
    this.#tickets = new TicketList(tickets);
    this.#new = el("button", {
      type: "button", class: "button small", dataset: { action: "create" }, "aria-label": `New machine of ${name}`,
      onclick: () => create(this.#template),
    }, icon("plus"), "New machine");
    this.element = el("section", { class: "launched", "aria-label": `Machines launched from ${name}`, dataset: { template: name } },
      el("div", { class: "launched-top" }, el("h2", {}, icon("template"), name), this.#taken, this.#new),
      this.#tickets.element, this.#none, this.list);
  }

  // `template` is null where the door has not told of it (yet), and its machines are all there is to see.
  update(template) {
    this.#template = template;
    const full = template !== null && template.taken >= template.limit;
    setText(this.#taken, template ? `${template.taken} of ${count(template.limit, "machine")}` : count(this.rows.length, "machine"));
    this.#new.hidden = !template?.actions.includes("create");
    this.#new.disabled = full;
    setAttribute(this.#new, "title", full ? `All ${template.limit} places are taken` : null);
    this.#none.hidden = this.rows.length > 0;
    this.updateTickets();
  }

  updateTickets() {
    this.#tickets.update(placeOf(this.#name));
  }

  // `bare`: whether it is shown where none of its machines is.
  filter(bare) {
    super.filter();
    if (bare && (this.rows.length === 0 || !this.#tickets.element.hidden)) this.element.hidden = false;
  }
}

export class Board {
  title = "Targets";
  #store;
  #tickets;
  #rows = new Map();
  #groups = new Map();
  #posts = new Map();
  #phase = "all";
  #act;
  #create;

  #street = el("div", { class: "street", "aria-hidden": "true" });
  #search = el("input", {
    type: "search", placeholder: "Find by name", "aria-label": "Find by name", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/",
  });
  #chips = el("div", { class: "chips", role: "group", "aria-label": "By phase" });
  #list = el("div", { class: "groups" });
  #empty = el("p", { class: "empty" });

  constructor(store, tickets, actions) {
    this.#store = store;
    this.#tickets = tickets;
    this.#act = (action, target) => actions.act(action, target);
    this.#create = (template) => actions.create(template);
    this.hero = this.#street;
    this.element = el("div", {},
      el("div", { class: "finder" }, el("label", { class: "search" }, icon("glass"), this.#search), this.#chips),
      this.#list, this.#empty);
    this.#search.addEventListener("input", () => this.#filter());
    for (const [phase, label] of CHIPS) {
      const number = el("span", { class: "count" });
      const shape = phase === "all" ? null : icon(`shape-${phase}`, "shape");
      const chip = el("button", {
        type: "button", class: "chip", "aria-pressed": phase === "all", dataset: { phase },
        onclick: () => this.#choose(phase),
      }, shape, label, number);
      chip.number = number;
      this.#chips.append(chip);
    }
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  show() {
    this.update(new Set([...this.#store.targets.keys(), ...this.#rows.keys()]));
    this.updateTemplates();
  }

  update(names) {
    let moved = false;
    for (const name of names) {
      const target = this.#store.targets.get(name);
      let row = this.#rows.get(name);
      if (!target) {
        moved = this.#rows.delete(name) || moved;
        continue;
      }
      if (!row) {
        row = new Row(this.#act, this.#tickets);
        this.#rows.set(name, row);
        moved = true;
      }
      row.update(target, this.#store.templates.get(target.template));
    }
    if (moved) this.#arrange();
    this.#light(names, moved);
    this.#filter();
  }

  updateTicket(ticket) {
    this.#rows.get(ticket.place)?.updateTickets();
    for (const group of this.#groups.values()) group.updateTickets?.();
    this.#filter();
  }

  updateTemplates() {
    for (const row of this.#rows.values()) {
      if (row.target.template) row.update(row.target, this.#store.templates.get(row.target.template));
    }
    this.#arrange();
    this.#filter();
  }

  // Groups and order; only when a target or a template came or went.
  #arrange() {
    const byGroup = new Map([...this.#store.templates.keys()].map((template) => [template, []]));
    for (const name of [...this.#rows.keys()].sort()) {
      const group = this.#rows.get(name).target.template ?? "";
      if (!byGroup.has(group)) byGroup.set(group, []);
      byGroup.get(group).push(this.#rows.get(name));
    }
    const names = [...byGroup.keys()].sort();
    for (const name of names) {
      if (!this.#groups.has(name)) this.#groups.set(name, name === "" ? new Group() : new TemplateGroup(name, this.#tickets, this.#create));
      const group = this.#groups.get(name);
      group.arrange(byGroup.get(name));
      group.update?.(this.#store.templates.get(name) ?? null);
    }
    for (const name of this.#groups.keys()) {
      if (!byGroup.has(name)) this.#groups.delete(name);
    }
    place(this.#list, names.map((name) => this.#groups.get(name).element));
  }

  #light(names, moved) {
    const few = this.#rows.size > 0 && this.#rows.size <= STREET_MAX;
    this.#street.hidden = !few;
    if (!few) return;
    for (const name of names) {
      const row = this.#rows.get(name);
      if (!row) {
        this.#posts.delete(name);
        continue;
      }
      let post = this.#posts.get(name);
      if (!post) {
        post = el("a", { tabindex: -1, href: `#/target/${encodeURIComponent(name)}`, title: name }, icon("post-off", "post"));
        this.#posts.set(name, post);
      }
      const phase = phaseOf(row.target);
      setAttribute(post, "data-phase", phase);
      setIcon(post.firstElementChild, `post-${phase}`);
      setAttribute(post, "title", `${name}: ${row.target.phase}`);
    }
    if (moved || this.#street.childElementCount !== this.#rows.size) {
      const order = [...this.#rows.keys()].sort();
      place(this.#street, order.map((name) => this.#posts.get(name)).filter(Boolean));
    }
  }

  #choose(phase) {
    this.#phase = phase;
    for (const chip of this.#chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.phase === phase));
    this.#filter();
  }

  #filter() {
    const wanted = this.#search.value.trim().toLowerCase();
    const counts = Object.fromEntries(CHIPS.map(([phase]) => [phase, 0]));
    let shown = 0;
    for (const row of this.#rows.values()) {
      const { target } = row;
      const named = !wanted || target.target.toLowerCase().includes(wanted);
      const phase = phaseOf(target);
      if (named) {
        counts.all += 1;
        counts[phase] = (counts[phase] ?? 0) + 1;
        if (target.paused) counts.paused += 1;
      }
      const inPhase = this.#phase === "all" || this.#phase === phase || (this.#phase === "paused" && target.paused);
      // What somebody has just asked something of stays in sight, whatever phase it goes to.
      const visible = named && (inPhase || this.#tickets.at(target.target).length > 0);
      if (row.element.hidden === visible) row.element.hidden = !visible;
      if (visible) shown += 1;
    }
    for (const chip of this.#chips.children) {
      const number = counts[chip.dataset.phase];
      setText(chip.number, String(number));
      chip.hidden = number === 0 && !["all", "on", "off"].includes(chip.dataset.phase) && this.#phase !== chip.dataset.phase;
    }
    for (const [name, group] of this.#groups) {
      const bare = this.#phase === "all" && name.toLowerCase().includes(wanted);
      group.filter(bare);
      if (!group.element.hidden) shown += 1;
    }
    this.#empty.hidden = shown > 0;
    setText(this.#empty, this.#emptyText());
  }

  #emptyText() {
    if (this.#store.line === "denied") return "This token may not look at targets: it lacks the right “read”.";
    if (!this.#store.complete) return "Looking for the lamps…";
    if (this.#rows.size === 0) return "There is no target here that this token may see.";
    return "No target is like that.";
  }

  // One sentence for the whole street.
  get sentence() {
    const counts = Object.fromEntries(PHASES.map((phase) => [phase, 0]));
    for (const target of this.#store.targets.values()) counts[phaseOf(target)] = (counts[phaseOf(target)] ?? 0) + 1;
    const total = this.#store.targets.size;
    if (total === 0 && (!this.#store.complete || this.#store.line === "denied")) return "";
    if (total === 0) return "No lamps yet.";
    const said = [];
    const is = (n) => (n === 1 ? "is" : "are");
    if (counts.on) said.push(`${count(counts.on, "lamp")} ${is(counts.on)} lit`);
    if (counts.starting) said.push(`${counts.starting} ${is(counts.starting)} being lit`);
    if (counts.stopping) said.push(`${counts.stopping} ${is(counts.stopping)} going out`);
    if (counts.failed) said.push(`${counts.failed} failed`);
    if (said.length === 0) return total === 1 ? "The lamp is dark." : `All ${total} lamps are dark.`;
    if (counts.off) said.push(`${counts.off} ${is(counts.off)} dark`);
    if (counts.on === total) return total === 1 ? "The lamp is lit." : `All ${total} lamps are lit.`;
    const text = said.length === 1 ? said[0] : `${said.slice(0, -1).join(", ")} and ${said.at(-1)}`;
    return `${text[0].toUpperCase()}${text.slice(1)}.`;
  }
}
