// Dead letters: what could not be understood, why, and again.

import { Problem, get, post } from "./api.js";
import { problemInWords } from "./commands.js";
import { askConfirm } from "./dialogs.js";
import { announce, el, icon, place, setText, time } from "./dom.js";
import { count } from "./words.js";

export class DeadLetters {
  title = "Dead letters";
  sentence = "Messages that could not be understood. Nothing is dropped: put right what was wrong, then replay them.";
  #messages = [];
  #list = el("ul", { class: "letters" });
  #empty = el("p", { class: "empty" });
  #said = el("p", { class: "note", hidden: true });
  #count = el("span", { class: "count" });
  #all = el("button", { type: "button", class: "button", onclick: () => this.#replayAll() }, "Replay all…");
  #again = el("button", { type: "button", class: "button", onclick: () => this.show() }, "Look again");
  element = el("div", {}, el("div", { class: "letters-top" }, this.#count, this.#all, this.#again), this.#said, this.#list, this.#empty);

  async show() {
    if (this.#messages.length === 0) this.#paint("Looking into the dead-letter queue…");
    try {
      const { messages, more } = await get("/v1/dead-letters");
      this.#messages = messages;
      this.more = more;
      this.#paint("There are none. All is understood.");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#messages = [];
      const { head, detail } = problemInWords(error);
      this.#paint(error.status === 403 ? "Dead letters are shown to those whose token has the right “admin”." : [head, detail].filter(Boolean).join(". "));
    }
  }

  #paint(empty) {
    const { length } = this.#messages;
    setText(this.#count, length ? count(length, "message") + (this.more ? ", and more" : "") : "");
    this.#all.hidden = length === 0;
    this.#empty.hidden = length > 0;
    setText(this.#empty, empty);
    place(this.#list, this.#messages.map((message) => this.#line(message)));
  }

  #line(message) {
    const id = message.id ?? message.message_id;
    return el("li", { class: "letter" },
      icon("letter", "letter-icon"),
      el("div", { class: "letter-text" },
        el("h2", {}, message.reason ?? "not said why"),
        el("p", {}, message.message),
        el("p", { class: "hint" }, "sent ", time(message.sent_at, "ago"), message.bytes === undefined ? "" : ` · ${sizeInWords(message.bytes)}`,
          " · ", el("span", { class: "mono" }, id))),
      el("button", { type: "button", class: "button", "aria-label": `Replay ${id}`, onclick: () => this.#replay(message) }, "Replay…"));
  }

  async #replay(message) {
    const sure = await askConfirm({
      title: "Replay this message?", picture: "lamp-starting", danger: false, submit: "Replay",
      lines: [`“${message.reason}: ${message.message}”`, "It goes to the command queue again, with its id and its time of sending. If what was wrong is still wrong, it comes back here."],
    });
    if (sure) await this.#send({ id: message.message_id });
  }

  async #replayAll() {
    const sure = await askConfirm({
      title: `Replay all ${this.#messages.length}${this.more ? " and more" : ""}?`, picture: "lamp-starting", danger: false, submit: "Replay all",
      lines: ["They go to the command queue again, with their ids and their times of sending. What is still wrong comes back here."],
    });
    if (sure) await this.#send({ all: true });
  }

  async #send(which) {
    this.#all.disabled = true;
    try {
      const { replayed, kept, late } = await post("/v1/dead-letters/replay", which);
      const left = kept ? `, ${kept} kept${late ? ` (${late} arrived meanwhile)` : ""}` : "";
      this.#say(`${count(replayed, "message")} replayed${left}.`);
      await this.show();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const { head, detail } = problemInWords(error);
      this.#say([head, detail].filter(Boolean).join(". "), true);
    } finally {
      this.#all.disabled = false;
    }
  }

  #say(text, bad = false) {
    this.#said.hidden = false;
    this.#said.className = bad ? "note note-failure" : "note note-good";
    setText(this.#said, text);
    announce(text);
  }
}

function sizeInWords(bytes) {
  return bytes < 1024 ? `${bytes} bytes` : `${(bytes / 1024).toFixed(1)} KiB`;
}
