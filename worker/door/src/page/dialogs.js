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

// The fields of a hold: how long, why, and for whom where the token may speak for anyone.
function holdFields({ hint, holder, anyone }) {
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
  return {
    body: [
      lengths,
      el("p", { class: "hint" }, hint),
      el("label", { class: "field" }, el("span", {}, "Why? ", el("small", {}, "others see it")), reason),
      who ? el("label", { class: "field" }, el("span", {}, "For whom?"), who) : null,
    ],
    answer: () => {
      const length = chosen() === "other" ? other.value.trim() : chosen();
      return { length, reason: reason.value.trim(), holder: who ? who.value.trim() : null };
    },
  };
}

export function askStart({ target, holder, anyone }) {
  const hint = "Without an end it stays on until it is released, or until it is idle where it has an idle policy.";
  return ask(frame({ title: `Start ${target}`, picture: "lamp-on", submit: "Start", ...holdFields({ hint, holder, anyone }) }));
}

// What a machine of a template is made with: an input for each parameter, and what the template asks of them together.
function parameterFields({ parameters, one_of: oneOf }) {
  const inputs = new Map(parameters.map(({ name, default: given, required }) => [name, el("input", {
    type: "text", name, class: "mono", maxlength: 4096, placeholder: given, required: required && given === null, autocomplete: "off",
    spellcheck: "false", autocapitalize: "none",
  })]));
  const field = (name) => {
    const input = inputs.get(name);
    const note = input.required ? "needed" : input.placeholder ? "as shown, where it stays empty" : oneOf.includes(name) ? null : "may stay empty";
    return el("label", { class: "field" }, el("span", {}, el("code", {}, name), note ? el("small", {}, ` ${note}`) : null), input);
  };
  const either = oneOf.filter((name) => inputs.has(name));
  const check = () => {
    const filled = either.some((name) => inputs.get(name).value.trim() !== "" || inputs.get(name).placeholder !== "");
    if (either.length > 0) inputs.get(either[0]).setCustomValidity(filled ? "" : `Fill in ${either.join(" or ")}.`);
  };
  check();
  const body = el("div", { class: "fields", oninput: check },
    either.length > 1 ? el("fieldset", { class: "fields" }, el("legend", {}, "One of these"), either.map(field)) : either.map(field),
    parameters.map(({ name }) => name).filter((name) => !either.includes(name)).map(field));
  const answer = () => Object.fromEntries([...inputs].map(([name, input]) => [name, input.value.trim()]).filter(([, value]) => value !== ""));
  return { body, answer };
}

export function askCreate({ template, holder, anyone }) {
  const made = parameterFields(template);
  const held = holdFields({ hint: "Without an end it stays until it is released or destroyed, at most as long as its template allows.", holder, anyone });
  return ask(frame({
    title: `New machine of ${template.template}`,
    picture: "lamp-starting",
    submit: "Create",
    body: [made.body, held.body],
    answer: () => ({ ...held.answer(), parameters: made.answer() }),
  }));
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
