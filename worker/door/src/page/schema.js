// JSON Schemas as OpenAPI 3.1 carries them: what they are called, what they say, and an example of each.

import { el } from "./dom.js";

// An example that nests deeper than this helps nobody, and a schema may know itself.
const DEPTH_MAX = 6;
// Of more properties than this an example has the required ones alone.
const PROPERTIES_MAX = 20;
// And of more than this, none of which is required, the first ones.
const FREE_MAX = 8;

// Prose in one line, with `code`.
export function inline(text) {
  return String(text).split(/(`[^`]+`)/).map((part) => (/^`[^`]+`$/.test(part) ? el("code", {}, part.slice(1, -1)) : part));
}

// What `$ref` points at, as often as needed; a circle of mere references ends.
export function resolve(doc, thing) {
  let found = thing;
  for (let steps = 0; found?.$ref && steps < 20; steps += 1) {
    const { $ref, ...beside } = found;
    const target = at(doc, $ref);
    found = target === undefined ? beside : { ...target, ...beside };
  }
  return found ?? {};
}

function at(doc, ref) {
  if (typeof ref !== "string" || !ref.startsWith("#/")) return undefined;
  return ref.slice(2).split("/").reduce((value, part) => value?.[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")], doc);
}

function nameOf(schema) {
  return typeof schema?.$ref === "string" ? decodeURIComponent(schema.$ref.split("/").at(-1)) : null;
}

function alternatives(schema) {
  return schema.oneOf ?? schema.anyOf ?? null;
}

// `array of Target`, `string or null`, `"done"`.
export function typeInWords(doc, schema) {
  const name = nameOf(schema);
  if (name) return name;
  const it = resolve(doc, schema);
  if (it === true || Object.keys(it).length === 0) return "anything";
  if ("const" in it) return JSON.stringify(it.const);
  if (it.enum) return it.enum.length <= 4 ? it.enum.map((value) => JSON.stringify(value)).join(" | ") : typeof it.enum[0];
  const either = alternatives(it);
  if (either) {
    const words = [...new Set(either.map((one) => typeInWords(doc, one)))];
    return words.length <= 3 ? words.join(" or ") : `one of ${words.length}`;
  }
  if (it.allOf) return it.allOf.map((one) => typeInWords(doc, one)).join(" and ");
  const types = [it.type ?? (it.properties ? "object" : "anything")].flat();
  return types.map((type) => {
    if (type === "array") return `array of ${typeInWords(doc, it.items ?? {})}`;
    return it.format && type !== "null" ? `${type} (${it.format})` : type;
  }).join(" or ");
}

const LIMITS = [["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"], ["exclusiveMaximum", "<"], ["minLength", "length ≥"],
  ["maxLength", "length ≤"], ["minItems", "items ≥"], ["maxItems", "items ≤"], ["multipleOf", "multiple of"], ["pattern", "matches"], ["default", "default"]];

function limitsInWords(it) {
  const words = LIMITS.filter(([key]) => it[key] !== undefined)
    .map(([key, word]) => `${word} ${key === "pattern" ? it[key] : JSON.stringify(it[key])}`);
  if (it.enum && it.enum.length > 4) words.push(`one of ${it.enum.map((value) => JSON.stringify(value)).join(", ")}`);
  if (it.additionalProperties === false) words.push("no other fields");
  if (it.deprecated) words.push("deprecated");
  if (it.readOnly) words.push("read only");
  if (it.writeOnly) words.push("write only");
  return words;
}

export function exampleOf(doc, schema, depth = 0) {
  const it = resolve(doc, schema);
  if (it.example !== undefined) return it.example;
  if (it.examples?.length) return it.examples[0];
  if (it.default !== undefined) return it.default;
  if ("const" in it) return it.const;
  if (it.enum) return it.enum[0];
  if (depth > DEPTH_MAX) return null;
  const either = alternatives(it);
  if (either?.length && !it.properties) {
    return exampleOf(doc, either.find((one) => resolve(doc, one).type !== "null") ?? either[0], depth + 1);
  }
  if (it.allOf) {
    const parts = it.allOf.map((one) => exampleOf(doc, one, depth + 1));
    const whole = parts.every((part) => part && typeof part === "object" && !Array.isArray(part));
    return whole ? Object.assign({}, ...parts, it.properties ? ofObject(doc, it, depth) : {}) : parts[0];
  }
  const type = [it.type ?? (it.properties ? "object" : "any")].flat().find((one) => one !== "null");
  if (type === "object") return ofObject(doc, it, depth);
  if (type === "array") return [exampleOf(doc, it.items ?? {}, depth + 1)];
  if (type === "integer" || type === "number") return it.minimum ?? 0;
  if (type === "boolean") return true;
  if (type === "string") return ofString(it);
  return null;
}

// Another spelling of a property, by what is said of it: it is no news in a tree, and wrong beside the first in an example.
function isAlias(one) {
  return /^The same as `/.test(one.description ?? "");
}

function ofObject(doc, it, depth) {
  const required = new Set(it.required ?? []);
  const all = Object.entries(it.properties ?? {}).filter(([, one]) => !isAlias(one));
  // Where many may stand and none has to, not all of them go together; the first are what matters.
  const few = required.size > 0 ? all.filter(([name]) => required.has(name)) : all.slice(0, 2);
  const some = all.length > PROPERTIES_MAX || (required.size === 0 && all.length > FREE_MAX) ? few : all;
  return Object.fromEntries(some.map(([name, one]) => [name, exampleOf(doc, one, depth + 1)]));
}

function ofString(it) {
  if (it.format === "date-time") return "2026-11-20T10:00:00Z";
  if (it.format === "date") return "2026-11-20";
  if (it.format === "uuid") return "3fa85f64-5717-4562-b3fc-2c963f66afa6";
  if (it.format === "uri") return "https://example.com/";
  return "string";
}

function isDeep(doc, schema) {
  const it = resolve(doc, schema);
  const items = it.items ? resolve(doc, it.items) : null;
  return Boolean(it.properties || alternatives(it) || it.allOf || (items && isDeep(doc, it.items))
    || (it.additionalProperties && typeof it.additionalProperties === "object"));
}

// A schema as a tree, whose branches are drawn when somebody opens them.
export function schemaTree(doc, schema) {
  const it = resolve(doc, schema);
  const parts = [];
  const limits = limitsInWords(it);
  if (limits.length) parts.push(el("p", { class: "limits" }, limits.join("; ")));
  if (it.properties) {
    const required = new Set(it.required ?? []);
    const shown = Object.entries(it.properties).filter(([, one]) => !isAlias(one));
    const aliases = Object.keys(it.properties).length - shown.length;
    parts.push(el("ul", { class: "tree" }, shown.map(([name, one]) => branch(doc, one, name, required.has(name)))));
    if (aliases > 0) parts.push(el("p", { class: "limits" }, `and ${aliases} other spellings of these`));
  }
  if (it.additionalProperties && typeof it.additionalProperties === "object") {
    parts.push(el("ul", { class: "tree" }, branch(doc, it.additionalProperties, "any other field", false)));
  }
  if (it.items) parts.push(el("ul", { class: "tree" }, branch(doc, it.items, "each", false)));
  const either = alternatives(it);
  if (either) parts.push(el("p", { class: "limits" }, it.oneOf ? "exactly one of" : "any of"), el("ul", { class: "tree" }, either.map((one) => branch(doc, one, null, false))));
  if (it.allOf) parts.push(el("ul", { class: "tree" }, it.allOf.map((one) => branch(doc, one, null, false))));
  if (parts.length === 0) parts.push(el("p", { class: "limits" }, typeInWords(doc, it)));
  return el("div", { class: "schema" }, parts);
}

function branch(doc, schema, name, required) {
  const it = resolve(doc, schema);
  const head = [
    name ? el("span", { class: "field-name" }, name) : null,
    required ? el("span", { class: "required", title: "required" }, "*") : null,
    el("span", { class: "type" }, (!name && it.title) || typeInWords(doc, schema)),
    it.description ? el("span", { class: "about" }, inline(it.description)) : null,
  ];
  if (!isDeep(doc, schema)) {
    const limits = limitsInWords(it);
    return el("li", {}, el("div", { class: "leaf" }, head), limits.length ? el("p", { class: "limits" }, limits.join("; ")) : null);
  }
  const details = el("details", {}, el("summary", {}, head));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(schemaTree(doc, schema));
  });
  return el("li", {}, details);
}
