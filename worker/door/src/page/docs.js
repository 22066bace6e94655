// The API, from `/openapi.json`: every operation with what it takes and gives, and a button that sends it.

import { forgetToken, keepToken, token } from "./api.js";
import { announce, el, icon, place, setText } from "./dom.js";
import { exampleOf, inline, resolve, schemaTree, typeInWords } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];
// More of a body than this is not drawn.
const SHOWN_MAX = 200_000;

const byId = (id) => document.getElementById(id);
let doc = {};
// `{ method, path, operation, id, tags, element, link }`.
const operations = [];

// Prose with paragraphs and `code`, which is all that the document uses of Markdown.
function prose(text) {
  return String(text ?? "").split(/\n{2,}/).filter(Boolean).map((paragraph) => el("p", {}, inline(paragraph)));
}

async function read() {
  const response = await fetch("/openapi.json", { headers: authorization(), cache: "no-cache" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response.json();
}

function authorization() {
  const held = token();
  return held ? { Authorization: `Bearer ${held}` } : {};
}

function collect() {
  for (const [path, item] of Object.entries(doc.paths ?? {})) {
    const shared = resolve(doc, item);
    for (const method of METHODS) {
      const operation = shared[method];
      if (!operation) continue;
      const parameters = new Map([...(shared.parameters ?? []), ...(operation.parameters ?? [])].map((one) => resolve(doc, one))
        .map((one) => [`${one.in} ${one.name}`, one]));
      operations.push({
        method, path, operation, parameters: [...parameters.values()],
        id: `op-${operation.operationId ?? `${method}-${path.replaceAll(/\W+/g, "-")}`}`, tags: operation.tags?.length ? operation.tags : ["other"],
        guarded: (operation.security ?? doc.security ?? []).some((one) => Object.keys(one).length > 0),
      });
    }
  }
}

function draw() {
  setText(byId("title"), `${doc.info?.title ?? ""} API`);
  place(byId("about"), [...prose(doc.info?.description), el("p", { class: "hero-hint" }, `Version ${doc.info?.version ?? "?"} · OpenAPI ${doc.openapi ?? "?"} · `, el("a", { href: "/openapi.json" }, "openapi.json"))]);
  const described = new Map((doc.tags ?? []).map((tag) => [tag.name, tag]));
  const tags = [...new Set([...described.keys(), ...operations.flatMap((one) => one.tags)])].filter((tag) => operations.some((one) => one.tags[0] === tag));
  const sections = [];
  const contents = [];
  for (const tag of tags) {
    const those = operations.filter((one) => one.tags[0] === tag);
    for (const one of those) {
      one.element = operationElement(one);
      one.link = el("a", { href: `#${one.id}`, class: "content" }, badge(one.method), el("span", {}, one.operation.summary || one.path));
      one.link.addEventListener("click", () => reveal(one));
    }
    const heading = `tag-${tag.replaceAll(/\W+/g, "-")}`;
    sections.push(el("section", { "aria-labelledby": heading }, el("h2", { id: heading }, tag), prose(described.get(tag)?.description), those.map((one) => one.element)));
    contents.push(el("section", {}, el("h2", {}, tag), those.map((one) => one.link)));
  }
  const schemas = Object.entries(doc.components?.schemas ?? {});
  if (schemas.length) {
    sections.push(el("section", { "aria-labelledby": "schemas" }, el("h2", { id: "schemas" }, "Schemas"), schemas.map(([name, schema]) => lazy(
      el("details", { class: "model", id: `schema-${name}` }, el("summary", {}, el("strong", {}, name), " ", el("span", { class: "about" }, inline(resolve(doc, schema).description ?? "")))),
      () => schemaTree(doc, schema)))));
  }
  place(byId("operations"), sections);
  place(byId("contents"), contents);
}

// What a `<details>` holds is drawn when it is opened first.
function lazy(details, make) {
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(make());
  });
  return details;
}

function badge(method) {
  return el("span", { class: "method", dataset: { method } }, method.toUpperCase());
}

// `/v1/targets/{name}` with its variable parts told apart.
function pathWords(path) {
  return path.split(/(\{[^}]+\})/).map((part) => (part.startsWith("{") ? el("em", {}, part) : part));
}

function operationElement(one) {
  const { operation } = one;
  const details = el("details", { class: "operation", id: one.id, dataset: { method: one.method } },
    el("summary", {}, badge(one.method), el("code", { class: "path" }, pathWords(one.path)),
      el("span", { class: "summary" }, operation.summary ?? ""), operation.deprecated ? el("span", { class: "deprecated" }, "deprecated") : null,
      one.guarded ? el("span", { class: "guarded", title: "needs a token" }, icon("lock"), el("span", { class: "unseen" }, "needs a token")) : null));
  return lazy(details, () => new Operation(one).element);
}

function reveal(one) {
  one.element.open = true;
  requestAnimationFrame(() => {
    one.element.scrollIntoView({ block: "start" });
    one.element.firstElementChild.focus({ preventScroll: true });
  });
}

class Operation {
  #one;
  #inputs = [];
  #body = null;
  #type = null;
  #bodyNote = el("p", { class: "hint bad", hidden: true });
  #curl = el("code", {});
  #answer = el("div", { class: "answer", "aria-live": "polite" });
  #send = el("button", { type: "submit", class: "button primary" }, "Send");
  #stop = el("button", { type: "button", class: "button", hidden: true, onclick: () => this.#abort?.abort() }, "Stop");
  #abort = null;

  constructor(one) {
    this.#one = one;
    const form = el("form", { class: "request" }, this.#parameters(), this.#requestBody(),
      el("div", { class: "curl" }, this.#curl, el("button", { type: "button", class: "button small", onclick: (event) => copy(this.#curl, event.currentTarget) }, "Copy")),
      el("div", { class: "send" }, this.#send, this.#stop));
    form.addEventListener("input", () => this.#tell());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#perform();
    });
    this.element = el("div", { class: "operation-body" }, el("div", { class: "prose" }, prose(one.operation.description)), form, this.#answer, this.#responses());
    this.#tell();
    addEventListener("lamplighter-token", () => this.#tell());
  }

  #parameters() {
    const { parameters } = this.#one;
    if (parameters.length === 0) return null;
    const rows = parameters.map((parameter) => {
      const schema = parameter.schema ?? {};
      const it = resolve(doc, schema);
      const first = parameter.example ?? Object.values(parameter.examples ?? {})[0]?.value ?? it.example ?? it.examples?.[0];
      const id = `${this.#one.id}-${parameter.in}-${parameter.name}`;
      const choices = it.enum ?? (it.type === "boolean" ? [true, false] : null);
      const input = choices
        ? el("select", { id }, parameter.required ? null : el("option", { value: "" }, "–"), choices.map((value) => el("option", { value: String(value) }, String(value))))
        : el("input", { id, type: "text", value: parameter.required ? first ?? "" : "", placeholder: first ?? it.default ?? "", required: Boolean(parameter.required), autocomplete: "off", spellcheck: "false" });
      this.#inputs.push({ parameter, input });
      return el("div", { class: "parameter" },
        el("label", { for: id }, el("span", { class: "field-name" }, parameter.name), parameter.required ? el("span", { class: "required", title: "required" }, "*") : null,
          el("span", { class: "type" }, `${typeInWords(doc, schema)} · ${parameter.in}`)),
        input, parameter.description ? el("p", { class: "hint" }, inline(parameter.description)) : null);
    });
    return el("fieldset", {}, el("legend", {}, "Parameters"), rows);
  }

  #requestBody() {
    const body = resolve(doc, this.#one.operation.requestBody ?? {});
    const types = Object.keys(body.content ?? {});
    if (types.length === 0) return null;
    this.#type = el("select", { "aria-label": "Content type" }, types.map((type) => el("option", { value: type }, type)));
    this.#body = el("textarea", { class: "mono", spellcheck: "false", autocomplete: "off", "aria-label": "Request body" });
    const example = el("select", { "aria-label": "Example" });
    const schema = el("details", { class: "model" }, el("summary", {}, "Schema"));
    const choose = () => {
      const media = body.content[this.#type.value];
      const examples = Object.entries(media.examples ?? {}).map(([name, given]) => [resolve(doc, given).summary ?? name, resolve(doc, given).value]);
      if (examples.length === 0) examples.push(["", media.example ?? exampleOf(doc, media.schema ?? {})]);
      place(example, examples.map(([name], at) => el("option", { value: at }, name)));
      example.hidden = examples.length < 2;
      const fill = () => {
        const value = examples[Number(example.value) || 0][1];
        this.#body.value = typeof value === "string" && !/json/.test(this.#type.value) ? value : JSON.stringify(value, null, 2);
        this.#body.rows = Math.min(18, Math.max(4, this.#body.value.split("\n").length + 1));
      };
      example.onchange = () => {
        fill();
        this.#tell();
      };
      fill();
      place(schema, [schema.firstChild]);
      schema.open = false;
      schema.make = () => schemaTree(doc, media.schema ?? {});
    };
    lazy(schema, () => schema.make());
    this.#type.addEventListener("change", choose);
    choose();
    return el("fieldset", {}, el("legend", {}, "Body ", body.required ? el("span", { class: "required", title: "required" }, "*") : null),
      el("div", { class: "body-top" }, this.#type, example), body.description ? el("p", { class: "hint" }, inline(body.description)) : null, this.#body, this.#bodyNote, schema);
  }

  #responses() {
    const all = Object.entries(this.#one.operation.responses ?? {});
    if (all.length === 0) return null;
    // Problems that look the same are one line.
    const groups = new Map();
    for (const [status, given] of all) {
      const response = resolve(doc, given);
      const key = status < "4" ? status : JSON.stringify([response.content, response.headers]);
      if (!groups.has(key)) groups.set(key, { statuses: [], response });
      groups.get(key).statuses.push([status, response.description ?? ""]);
    }
    return el("div", { class: "responses" }, el("h3", {}, "Responses"), [...groups.values()].map(({ statuses, response }) => {
      const media = Object.entries(response.content ?? {});
      const said = statuses.length === 1 ? statuses[0][1] : "a problem, told in the same shape";
      const head = [statuses.map(([status, about]) => el("span", { class: "status", title: about, dataset: { kind: status[0] } }, status)),
        el("span", { class: "about" }, inline(said))];
      const headers = Object.entries(response.headers ?? {});
      if (media.length === 0 && headers.length === 0) return el("div", { class: "response plain" }, head);
      return lazy(el("details", { class: "response" }, el("summary", {}, head)), () => el("div", {},
        headers.map(([name, header]) => el("p", { class: "limits" }, el("span", { class: "field-name" }, name), " ", resolve(doc, header).description ?? "")),
        media.map(([type, content]) => [el("p", { class: "type" }, type),
          content.schema ? schemaTree(doc, content.schema) : null,
          content.schema || content.example ? lazy(el("details", { class: "model" }, el("summary", {}, "Example")),
            () => el("pre", { tabindex: 0 }, asText(content.example ?? Object.values(content.examples ?? {})[0]?.value ?? exampleOf(doc, content.schema ?? {})))) : null])));
    }));
  }

  // What would be sent, by the form as it stands.
  #request() {
    let { path } = this.#one;
    const query = new URLSearchParams();
    const headers = { ...(this.#one.guarded ? authorization() : {}) };
    for (const { parameter, input } of this.#inputs) {
      const value = input.value;
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (value === "") continue;
      else if (parameter.in === "query") query.append(parameter.name, value);
      else if (parameter.in === "header") headers[parameter.name] = value;
    }
    const text = query.toString();
    const base = doc.servers?.[0]?.url;
    const prefix = typeof base === "string" && /^\/(?!\/)/.test(base) ? base.replace(/\/$/, "") : "";
    const request = { method: this.#one.method.toUpperCase(), path: `${prefix}${path}${text ? `?${text}` : ""}`, headers };
    if (this.#body && this.#body.value.trim() !== "") {
      request.body = this.#body.value;
      headers["Content-Type"] = this.#type.value;
    }
    return request;
  }

  #tell() {
    const { method, path, headers, body } = this.#request();
    const words = ["curl", ...(method === "GET" ? [] : ["-X", method]), quoted(`${location.origin}${path}`)];
    for (const [name, value] of Object.entries(headers)) {
      // The token itself stays out of what is copied about.
      words.push("-H", name === "Authorization" ? '"Authorization: Bearer $LAMPLIGHTER_TOKEN"' : quoted(`${name}: ${value}`));
    }
    if (body !== undefined) words.push("-d", quoted(compact(body)));
    setText(this.#curl, words.join(" "));
    const wrong = body !== undefined && /json/.test(this.#type.value) ? whyNoJson(body) : null;
    this.#bodyNote.hidden = !wrong;
    setText(this.#bodyNote, wrong ? `This is no JSON: ${wrong}. It is sent as it stands.` : "");
  }

  async #perform() {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const { method, path, headers, body } = this.#request();
    const from = performance.now();
    const took = () => `${Math.round(performance.now() - from)} ms`;
    this.#send.disabled = true;
    this.#stop.hidden = false;
    place(this.#answer, [el("p", { class: "hint" }, "Waiting for the answer…")]);
    try {
      const response = await fetch(path, { method, headers, body, signal: abort.signal, cache: "no-store" });
      const status = el("p", { class: "status-line" }, el("span", { class: "status", dataset: { kind: String(response.status)[0] } }, String(response.status)),
        ` ${response.statusText || ""}`, el("span", { class: "took" }, took()));
      const names = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      const shown = el("pre", { class: "answer-body", tabindex: 0 });
      place(this.#answer, [status, el("details", { class: "model" }, el("summary", {}, "Headers"), el("pre", { tabindex: 0 }, names)), shown]);
      await show(response, shown);
    } catch (error) {
      const stopped = abort.signal.aborted;
      this.#answer.append(el("p", { class: stopped ? "hint" : "bad" }, stopped ? `Stopped after ${took()}.` : `It could not be sent, or the door cannot be reached: ${error.message}.`));
    } finally {
      if (this.#abort === abort) {
        this.#send.disabled = false;
        this.#stop.hidden = true;
      }
    }
  }
}

// The body as it comes, so that a stream without end is seen too; JSON is set out when it is whole.
async function show(response, shown) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    text += value;
    if (text.length > SHOWN_MAX) text = text.slice(-SHOWN_MAX);
    setText(shown, text);
  }
  if (/json/.test(response.headers.get("Content-Type") ?? "")) {
    try {
      setText(shown, JSON.stringify(JSON.parse(text), null, 2));
    } catch {
      // As it came, then.
    }
  }
  shown.hidden = text === "";
}

function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

function whyNoJson(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}

function compact(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function copy(element, button) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    setText(button, "Copied");
    announce("Copied.");
  } catch {
    // Not on plain http: it is selected, ready for the keyboard.
    getSelection().selectAllChildren(element);
    setText(button, "Selected");
  }
  setTimeout(() => setText(button, "Copy"), 2000);
}

async function meet() {
  setText(byId("authorize-word"), token() ? "Token set" : "Authorize");
  dispatchEvent(new Event("lamplighter-token"));
  setText(byId("who"), "");
  try {
    const response = await fetch("/v1/me", { headers: authorization(), cache: "no-store" });
    if (response.status === 401) setText(byId("who"), token() ? "the token is not accepted" : "");
    if (!response.ok) return;
    const me = await response.json();
    setText(byId("who"), me.auth === "none" ? "open to all" : `${me.name}: ${me.may.join(", ")}`);
    byId("authorize").hidden = me.auth === "none";
  } catch {
    setText(byId("who"), "the door cannot be reached");
  }
}

const gate = byId("gate");
byId("authorize").addEventListener("click", () => {
  byId("token").value = token() ?? "";
  byId("forget").hidden = !token();
  gate.showModal();
});
byId("cancel").addEventListener("click", () => gate.close());
byId("forget").addEventListener("click", () => {
  forgetToken();
  gate.close();
  meet();
});
byId("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = byId("token").value.trim();
  if (given) keepToken(given, byId("remember").checked);
  gate.close();
  meet();
});

byId("find").addEventListener("input", () => {
  const wanted = byId("find").value.trim().toLowerCase();
  for (const one of operations) {
    const text = `${one.method} ${one.path} ${one.operation.summary ?? ""} ${one.tags.join(" ")}`.toLowerCase();
    const hidden = !text.includes(wanted);
    one.element.hidden = hidden;
    one.link.hidden = hidden;
  }
  for (const section of document.querySelectorAll("#contents > section, #operations > section")) {
    const those = [...section.querySelectorAll(":scope > .operation, :scope > .content")];
    section.hidden = those.length > 0 ? those.every((one) => one.hidden) : wanted !== "";
  }
});

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

function revealByAddress() {
  const one = operations.find((it) => `#${it.id}` === location.hash);
  if (one) reveal(one);
}

addEventListener("hashchange", revealByAddress);
meet();
try {
  doc = await read();
  collect();
  draw();
  revealByAddress();
} catch (error) {
  place(byId("operations"), [el("p", { class: "empty" }, `The document cannot be read: ${error.message}.`)]);
}
