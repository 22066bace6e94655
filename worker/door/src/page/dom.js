// Elements from data. Data becomes text and attributes, never markup: nothing here, or anywhere in these pages, parses
// a string as HTML.

import { fullTime, lengthInWords, momentOf, shortTime } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

// `el("p", { class: "why", title: t }, "text", child)`. A property that is null, undefined or false is left out.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || (value === false && !name.startsWith("aria-"))) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A picture from the sprite in index.html.
export function icon(name, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

export function setIcon(svg, name) {
  const use = svg.firstElementChild;
  if (use.getAttribute("href") !== `#${name}`) use.setAttribute("href", `#${name}`);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// Makes `parent`'s children exactly `wanted`, moving as few as possible: what stays keeps its focus.
export function place(parent, wanted) {
  let at = parent.firstChild;
  for (const given of wanted) {
    const child = typeof given === "string" ? document.createTextNode(given) : given;
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// How a moment reads, by the mode of its element.
const MODES = {
  for: (at, now) => `for ${lengthInWords((now - at) / 1000)}`,
  ago: (at, now) => {
    const seconds = (now - at) / 1000;
    return seconds < 5 ? "just now" : `${lengthInWords(seconds)} ago`;
  },
  until: (at, now) => {
    const left = (at - now) / 1000;
    return left <= 0 ? `until ${shortTime(at, now)}` : `until ${shortTime(at, now)}, ${lengthInWords(left)} left`;
  },
  in: (at, now) => {
    const left = (at - now) / 1000;
    return left <= 0 ? "now" : `in ${lengthInWords(left)}`;
  },
};

// A moment that stays true by itself: relative in its text, absolute in its title.
export function time(text, mode) {
  const element = el("time", { dataset: { mode } });
  setTime(element, text);
  return element;
}

export function setTime(element, text) {
  if (element.source === text) return;
  element.source = text;
  const at = momentOf(text);
  element.at = at;
  setAttribute(element, "datetime", at === null ? null : text);
  setAttribute(element, "title", at === null ? null : fullTime(at));
  tell(element, Date.now());
}

function tell(element, now) {
  setText(element, element.at === null || element.at === undefined ? "" : MODES[element.dataset.mode](element.at, now));
}

// What else follows the clock: `element.tick(now)`.
export function everySecond() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-mode]")) tell(element, now);
  for (const element of document.querySelectorAll("[data-ticks]")) element.tick?.(now);
}

// Says something to those who do not see the page.
export function announce(text) {
  const region = document.getElementById("announcements");
  // A region that gets the same text twice says it once: the empty moment between makes it news.
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 50);
}
