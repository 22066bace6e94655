// The page: begins everything, and shows the view that the address names.
//
// `store` knows the targets, `tickets` the commands on their way, `actions` what may be asked; a view paints. The
// address's part after `#` is the route: `#/`, `#/target/NAME`, `#/week`, `#/dead-letters`.

import { Actions } from "./actions.js";
import { forgetToken, keepToken, takeTokenFromAddress, token, whenRefused } from "./api.js";
import { Board } from "./board.js";
import { Tickets } from "./commands.js";
import { announce, everySecond, setAttribute, setText } from "./dom.js";
import { DeadLetters } from "./letters.js";
import { Store } from "./store.js";
import { TargetView } from "./target.js";
import { Week } from "./week.js";

const byId = (id) => document.getElementById(id);

const store = new Store();
const tickets = new Tickets();
const actions = new Actions(store, tickets);
const board = new Board(store, tickets, actions);
const views = {
  board,
  week: new Week(store),
  letters: new DeadLetters(),
  target: new TargetView(store, tickets, actions),
};

let view = null;

function route() {
  if (takeTokenFromAddress()) signedIn();
  const [, name = "", rest = ""] = /^#\/([^/]*)\/?(.*)$/.exec(location.hash) ?? [];
  if (name === "target" && rest) return { view: views.target, argument: decoded(rest) };
  if (name === "week") return { view: views.week };
  if (name === "dead-letters") return { view: views.letters };
  return { view: views.board };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function go({ first = false } = {}) {
  const { view: next, argument } = route();
  const moved = view !== next || view.argument !== argument;
  if (view && view !== next) view.hide?.();
  view = next;
  view.argument = argument;
  byId("view").replaceChildren(view.element);
  byId("hero-extra").replaceChildren(...(view.hero ? [view.hero] : []));
  view.show(argument);
  paint();
  for (const link of byId("nav").querySelectorAll("a")) {
    const current = link.dataset.view === Object.keys(views).find((key) => views[key] === view);
    setAttribute(link, "aria-current", current ? "page" : null);
  }
  if (moved && !first) {
    scrollTo(0, 0);
    byId("title").focus({ preventScroll: true });
  }
}

function paint() {
  setText(byId("title"), view.title);
  setText(byId("sentence"), view.sentence ?? "");
  byId("hero").dataset.view = view === views.board ? "board" : "other";
  const lit = [...store.targets.values()].filter((target) => target.phase === "on").length;
  document.title = view === board ? (lit ? `${lit} on · Lamplighter` : "Lamplighter") : `${view.title} · Lamplighter`;
}

store.addEventListener("targets", (event) => {
  view?.update?.(event.detail);
  paint();
});

store.addEventListener("templates", () => view?.updateTemplates?.());

tickets.addEventListener("ticket", (event) => view?.updateTicket?.(event.detail));

store.addEventListener("me", () => {
  const { me } = store;
  byId("nav-letters").hidden = !store.may("admin");
  const who = byId("who");
  who.hidden = !me || (me.auth === "none" && !actions.anyone);
  who.disabled = !actions.anyone;
  setText(byId("who-name"), actions.holder || (actions.anyone ? "default" : ""));
  who.title = actions.anyone ? `Starts and stops are made in ${actions.holder ? "this name" : "this name, which all share"}. Press to change it.` : `The token “${me?.name}” speaks for this name.`;
  byId("sign-out").hidden = !token();
  view?.meet?.(me);
});

const LINES = {
  connecting: ["connecting", "Asking the door"],
  live: ["live", "Every change is shown as it happens"],
  reconnecting: ["reconnecting", "The line to the door broke; what is shown may be old"],
  polling: ["every few seconds", "Events do not come through; the list is asked instead"],
  refused: ["signed out", "The door wants a token"],
  denied: ["no right to look", "This token lacks the right “read”"],
};

store.addEventListener("line", () => {
  const [word, title] = LINES[store.line];
  const line = byId("line");
  line.dataset.line = store.line;
  line.title = title;
  setText(byId("line-word"), word);
});

// The form for the token: over the page, which stays as it was.

const gate = byId("gate");

function refused(held) {
  // A slow answer to an older token says nothing of the one that was given since, nor a second one of the one that is
  // being typed.
  if (held !== token() || gate.open) return;
  setText(byId("gate-words"), held ? "The token that was used is not accepted, or no longer." : "This door opens to those who have a token.");
  byId("gate-wrong").hidden = !held;
  store.end("refused");
  byId("token").value = "";
  gate.showModal();
  byId("token").focus();
  if (held) announce("The token is not accepted.");
}

function signedIn() {
  store.forget();
  store.begin();
  if (gate.open) gate.close();
}

whenRefused(refused);

// Without a token there is nothing to go back to. A browser lets a second Esc through: then it is opened again.
gate.addEventListener("cancel", (event) => event.preventDefault());
gate.addEventListener("close", () => {
  if (store.line === "refused") gate.showModal();
});

byId("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = byId("token").value.trim();
  if (!given) return;
  keepToken(given, byId("remember").checked);
  signedIn();
  view.show(view.argument);
});

byId("sign-out").addEventListener("click", () => {
  forgetToken();
  store.forget();
  location.reload();
});

byId("who").addEventListener("click", () => actions.askWho());

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

addEventListener("hashchange", () => go());

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog") || view !== board) return;
  event.preventDefault();
  board.focusSearch();
});

function mendable() {
  return ["reconnecting", "polling"].includes(store.line);
}

// A page that was away for long asks at once, rather than at its next try.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && mendable()) store.begin();
});
addEventListener("online", () => {
  if (mendable()) store.begin();
});

takeTokenFromAddress();
go({ first: true });
store.begin();
setInterval(everySecond, 1000);
