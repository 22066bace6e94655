// Questions to the person: each opens one dialog and answers a promise, null where it was left.

import { el, icon } from "./dom.js";

// Esc, the cancel button and a press beside the dialog leave it. Focus goes back where it came from.
function ask(dialog) {
  const { promise, resolve } = Promise.withResolvers?.() ?? withResolvers();
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.answer ?? null);
  });
  dialog.addEventListener("mousedown", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.showModal();
  return promise;
}

function withResolvers() {
  let resolve;
  const promise = new Promise((done) => { resolve = done; });
  return { promise, resolve };
}

let numbers = 0;

function frame({ title, picture, body, submit, danger = false, answer }) {
  numbers += 1;
  const heading = `dialog-${numbers}`;
  const cancel = el("button", { type: "button", class: "button" }, "Cancel");
  const go = el("button", { type: "submit", class: danger ? "button danger" : "button primary" }, submit);
  const form = el("form", { method: "dialog" },
    el("h2", { id: heading }, picture ? icon(picture, "icon large") : null, title),
    body,
    el("div", { class: "dialog-buttons" }, cancel, go));
  const dialog = el("dialog", { "aria-labelledby": heading, class: "dialog" }, form);
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.answer = answer();
    dialog.close();
  });
  // Where something is lost, Enter at once must not lose it.
  if (danger) cancel.autofocus = true;
  return dialog;
}

const LENGTHS = [
  ["", "No end"], ["30m", "30 min"], ["1h", "1 h"], ["2h", "2 h"], ["4h", "4 h"], ["8h", "8 h"], ["other", "Other"],
];
// As `events/schemas/command.schema.json` has it, and not empty.
const LENGTH = "(?=.)(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?";

// How long, why, and for whom where the token may speak for anyone.
export function askStart({ target, holder, anyone }) {
  const other = el("input", {
    type: "text", name: "other", pattern: LENGTH, placeholder: "1h30m", size: 8, autocomplete: "off",
    "aria-label": "How long, as 1h30m", title: "days, hours, minutes, seconds, as in 1h30m",
  });
  const choices = LENGTHS.map(([value, label]) => el("label", { class: "choice" },
    el("input", { type: "radio", name: "length", value, checked: value === "" }), el("span", {}, label)));
  const chosen = () => choices.map((choice) => choice.firstElementChild).find((input) => input.checked).value;
  const lengths = el("fieldset", { class: "choices" }, el("legend", {}, "For how long?"), choices, other);
  const show = () => {
    other.hidden = chosen() !== "other";
    other.required = !other.hidden;
    other.disabled = other.hidden;
  };
  lengths.addEventListener("change", () => {
    show();
    if (!other.hidden) other.focus();
  });
  show();
  const reason = el("input", { type: "text", name: "reason", maxlength: 512, autocomplete: "off" });
  const who = anyone
    ? el("input", { type: "text", name: "holder", maxlength: 128, value: holder, placeholder: "default", autocomplete: "off" })
    : null;
  const dialog = frame({
    title: `Start ${target}`,
    picture: "lamp-on",
    submit: "Start",
    body: [
      lengths,
      el("p", { class: "hint" }, "Without an end it stays on until it is released, or until it is idle where it has an idle policy."),
      el("label", { class: "field" }, el("span", {}, "Why? ", el("small", {}, "others see it")), reason),
      who ? el("label", { class: "field" }, el("span", {}, "For whom?"), who) : null,
    ],
    answer: () => {
      const length = chosen() === "other" ? other.value.trim() : chosen();
      return { length, reason: reason.value.trim(), holder: who ? who.value.trim() : null };
    },
  });
  return ask(dialog);
}

// `lines`: what will be lost, a sentence each.
export function askConfirm({ title, lines, submit, picture = "lamp-off", danger = true }) {
  return ask(frame({
    title, picture, submit, danger, body: lines.map((line) => el("p", {}, line)), answer: () => true,
  }));
}

export function askReason({ title, lines, submit }) {
  const reason = el("input", { type: "text", name: "reason", maxlength: 512, autocomplete: "off" });
  return ask(frame({
    title,
    picture: "lamp-paused",
    submit,
    body: [
      lines.map((line) => el("p", {}, line)),
      el("label", { class: "field" }, el("span", {}, "Why? ", el("small", {}, "others see it")), reason),
    ],
    answer: () => ({ reason: reason.value.trim() }),
  }));
}

// Who the page speaks for, where the token may speak for anyone.
export function askName({ holder }) {
  const who = el("input", {
    type: "text", name: "holder", maxlength: 128, value: holder, placeholder: "default", autocomplete: "username",
  });
  return ask(frame({
    title: "Who are you?",
    picture: "lamp-on",
    submit: "Use this name",
    body: [
      el("p", {}, "This token may speak for anyone. Your starts and stops are made in this name; without one, in the shared name “default”."),
      el("label", { class: "field" }, el("span", {}, "Name"), who),
    ],
    answer: () => ({ holder: who.value.trim() }),
  }));
}
