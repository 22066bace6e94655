// The buttons of a target: what it can do and this caller may, and nothing else.

import { askConfirm, askCreate, askName, askReason, askStart } from "./dialogs.js";
import { el, icon, place, setAttribute, setText } from "./dom.js";
import { ACTIONS, actionInWords, count, phaseOf } from "./words.js";

const NAME_KEY = "lamplighter.holder";

// The order in which they stand; what is not here comes after.
const ORDER = Object.keys(ACTIONS);
// What a row shows; the rest waits behind its "more" button.
const IN_A_ROW = ["start", "stop"];
// Whoever is asked something while hands are off does nothing: first things first.
const IN_A_PAUSED_ROW = ["resume"];

export class Actions {
  #store;
  #tickets;

  constructor(store, tickets) {
    this.#store = store;
    this.#tickets = tickets;
  }

  // Whether the token may speak for anyone.
  get anyone() {
    return this.#store.me?.holder === "*";
  }

  // In whose name starts and stops are made; "" is the shared name.
  get holder() {
    if (!this.anyone) return this.#store.me?.holder ?? "";
    try {
      return localStorage.getItem(NAME_KEY) ?? "";
    } catch {
      return "";
    }
  }

  async askWho() {
    const answer = await askName({ holder: this.holder });
    if (answer) this.#keepName(answer.holder);
    return answer !== null;
  }

  #keepName(name) {
    try {
      localStorage.setItem(NAME_KEY, name);
    } catch {
      // Asked again next time.
    }
    this.#store.dispatchEvent(new Event("me"));
  }

  #command(action, whose, more = {}) {
    const named = this.anyone && this.holder ? { holder: this.holder } : {};
    return this.#tickets.send({ action, ...whose, ...named, ...more });
  }

  // How long, why and for whom, as a start and a create have it.
  #hold({ length, reason, holder }) {
    if (holder !== null && holder !== this.holder) this.#keepName(holder);
    return { ...(length ? { for: length } : {}), ...(reason ? { reason } : {}) };
  }

  async create(template) {
    const answer = await askCreate({ template, holder: this.holder, anyone: this.anyone });
    if (answer) await this.#command("create", { template: template.template }, { ...this.#hold(answer), ...answer.parameters });
  }

  async act(action, target) {
    const name = target.target;
    const whose = { target: name };
    if (action === "start") {
      const answer = await askStart({ target: name, holder: this.holder, anyone: this.anyone });
      if (answer) await this.#command(action, whose, this.#hold(answer));
      return;
    }
    if (action === "pause") {
      const lines = ["While it is paused Lamplighter only watches it: it neither starts nor stops it, whoever asks."];
      const answer = await askReason({ title: `Pause ${name}?`, lines, submit: "Pause" });
      if (answer) await this.#command(action, whose, answer.reason ? { reason: answer.reason } : {});
      return;
    }
    const question = questionBefore(action, target);
    if (question && !(await askConfirm(question))) return;
    await this.#command(action, whose);
  }

  // Ends one holder's hold.
  async release(target, holder) {
    await this.#tickets.send({ action: "stop", target: target.target, holder });
  }
}

function holdersInWords(target) {
  const holders = [...new Set((target.holds ?? []).map((hold) => hold.holder))];
  if (holders.length === 0) return null;
  const shown = holders.slice(0, 5).join(", ");
  const more = holders.length > 5 ? ` and ${holders.length - 5} more` : "";
  return `${count(holders.length, "holder")} will lose it: ${shown}${more}.`;
}

// What is asked before something is lost.
function questionBefore(action, target) {
  const name = target.target;
  const launched = target.stop_destroys;
  const gone = "The machine is terminated, and what is on it is gone.";
  if (action === "kill") {
    return {
      title: `Kill ${name}?`,
      picture: "lamp-off",
      submit: `Kill ${name}`,
      lines: [`All holds on it end at once, and it is ${launched ? "terminated" : "stopped"}.`, launched ? gone : null,
        holdersInWords(target)].filter(Boolean),
    };
  }
  if (action === "destroy") {
    return {
      title: `Destroy ${name}?`, submit: `Destroy ${name}`, lines: [gone, holdersInWords(target)].filter(Boolean),
    };
  }
  if (action === "stop" && launched) {
    return {
      title: `Stop ${name}?`,
      submit: "Stop",
      lines: ["Your hold on it ends. A launched machine that nobody else holds is terminated, and what is on it is gone."],
    };
  }
  return null;
}

// One menu for all rows, in the top layer: a row may clip what it contains.
let menu = null;

function openMenu(opener, actions, act) {
  if (!menu) {
    menu = el("div", { class: "menu", popover: "auto", role: "menu" });
    menu.addEventListener("keydown", moveInMenu);
    menu.addEventListener("toggle", (event) => {
      if (event.newState === "closed") menu.opener?.setAttribute("aria-expanded", "false");
    });
    // It stands where its button stood; a scroll that was under way when it was opened has moved neither.
    addEventListener("scroll", () => {
      if (menu.matches(":popover-open") && Math.abs(menu.opener.getBoundingClientRect().top - menu.openedAt) > 2) menu.hidePopover();
    }, { passive: true });
    document.body.append(menu);
  }
  menu.opener = opener;
  place(menu, actions.map((action) => {
    const { label, danger } = actionInWords(action);
    return el("button", {
      type: "button", role: "menuitem", class: danger ? "danger" : null, dataset: { action },
      onclick: () => {
        menu.hidePopover();
        opener.focus();
        act(action);
      },
    }, label);
  }));
  menu.showPopover();
  opener.setAttribute("aria-expanded", "true");
  const from = opener.getBoundingClientRect();
  menu.openedAt = from.top;
  const size = menu.getBoundingClientRect();
  const below = from.bottom + 6 + size.height <= innerHeight;
  menu.style.top = `${Math.max(8, below ? from.bottom + 6 : from.top - 6 - size.height)}px`;
  menu.style.left = `${Math.max(8, Math.min(from.right - size.width, innerWidth - size.width - 8))}px`;
  menu.firstElementChild?.focus();
}

function moveInMenu(event) {
  const items = [...menu.children];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (event.key === "Tab") {
    menu.hidePopover();
    menu.opener?.focus();
  }
  if (to === undefined) return;
  event.preventDefault();
  items[(to + items.length) % items.length].focus();
}

// The buttons of one target, kept: what stays keeps its focus. `full` shows all of them, a row the common ones.
export class Buttons {
  element = el("div", { class: "buttons" });
  #known = new Map();
  #more = null;
  #full;
  #act;
  #target = null;

  constructor(act, { full = false } = {}) {
    this.#full = full;
    this.#act = act;
  }

  update(target) {
    this.#target = target;
    const actions = [...(target.actions ?? [])].sort((a, b) => rank(a) - rank(b));
    const common = target.paused && actions.includes("resume") ? IN_A_PAUSED_ROW : IN_A_ROW;
    const shown = this.#full ? actions : actions.filter((action) => common.includes(action));
    const hidden = actions.filter((action) => !shown.includes(action));
    const primary = primaryOf(target, shown);
    const children = shown.map((action) => this.#button(action, target, action === primary));
    if (hidden.length > 0) children.push(this.#moreButton(hidden, target));
    place(this.element, children);
  }

  #button(action, target, primary) {
    let button = this.#known.get(action);
    const { label, danger } = actionInWords(action);
    if (!button) {
      button = el("button", {
        type: "button", dataset: { action }, onclick: () => this.#act(action, this.#target),
      }, label);
      this.#known.set(action, button);
    }
    setAttribute(button, "class", danger ? "button danger-quiet" : primary ? "button primary" : "button");
    setAttribute(button, "aria-label", `${label} ${target.target}`);
    return button;
  }

  #moreButton(hidden, target) {
    if (!this.#more) {
      this.#more = el("button", {
        type: "button", class: "button more", "aria-haspopup": "menu", "aria-expanded": "false", dataset: { action: "more" },
        onclick: () => openMenu(this.#more, this.#more.hiddenActions, (action) => this.#act(action, this.#target)),
      }, icon("dots"));
    }
    this.#more.hiddenActions = hidden;
    setAttribute(this.#more, "aria-label", `More for ${target.target}`);
    return this.#more;
  }
}

function rank(action) {
  const at = ORDER.indexOf(action);
  return at < 0 ? ORDER.length : at;
}

function primaryOf(target, shown) {
  if (target.paused && shown.includes("resume")) return "resume";
  const wanted = ["on", "starting"].includes(phaseOf(target)) ? "stop" : "start";
  return shown.includes(wanted) ? wanted : null;
}

// How the commands of one place go: what was asked, where it is, what came of it.
export class TicketList {
  element = el("ul", { class: "tickets" });
  #tickets;
  #known = new Map();

  constructor(tickets) {
    this.#tickets = tickets;
  }

  // Those at this target, or at this template's `placeOf`.
  update(where) {
    const tickets = this.#tickets.at(where);
    for (const ticket of this.#known.keys()) {
      if (!tickets.includes(ticket)) this.#known.delete(ticket);
    }
    place(this.element, tickets.map((ticket) => this.#line(ticket)));
    this.element.hidden = tickets.length === 0;
  }

  #line(ticket) {
    let line = this.#known.get(ticket);
    if (!line) {
      const head = el("strong", {});
      const detail = el("span", { class: "ticket-detail" });
      // Where it is not shown at its target: the one that a create makes.
      const name = el("a", { class: "mono" });
      const close = el("button", {
        type: "button", class: "quiet", "aria-label": "Dismiss", title: "Dismiss",
        onclick: () => this.#tickets.dismiss(ticket),
      }, icon("cross"));
      line = el("li", { class: "ticket" }, el("span", { class: "ticket-mark", "aria-hidden": "true" }),
        el("span", { class: "ticket-text" }, head, " ", detail, " ", name), close);
      line.parts = { head, detail, name, close };
      this.#known.set(ticket, line);
    }
    const { head, detail, name, close } = line.parts;
    const { doing, label } = actionInWords(ticket.action);
    setAttribute(line, "data-kind", ticket.verdict?.kind ?? "open");
    setText(head, ticket.verdict?.head ?? { sending: `${label}: sending`, sent: `${label}: sent` }[ticket.state] ?? `${doing}…`);
    setText(detail, ticket.verdict?.detail || ticket.note || {
      sending: "", sent: "waiting for a worker to take it", accepted: "a worker has taken it",
    }[ticket.state] || "");
    name.hidden = !ticket.name || ticket.name === ticket.place || ["rejected", "failed"].includes(ticket.verdict?.kind);
    setText(name, ticket.name ?? "");
    setAttribute(name, "href", ticket.name ? `#/target/${encodeURIComponent(ticket.name)}` : null);
    close.hidden = ticket.state !== "over";
    return line;
  }
}
