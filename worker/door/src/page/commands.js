// Commands on their way: sent with a key that makes a repeat harmless, then followed until their outcome.
//
// A *ticket* is one command as the page follows it:
// `{ key, place, name, action, state, note, verdict: null | { kind, head, detail } }`, its state `sending`, `sent`,
// `accepted`, or `over`. Its place is where it is shown: a target's name, or `placeOf` the template of a create; its
// name is that of the target, also of the one that a create makes, once the door has said it.

import { Problem, get, newId, pause, pauseBefore, postCommand } from "./api.js";
import { announce } from "./dom.js";
import { verdictInWords } from "./words.js";

// How often a command that may not have arrived is sent again, always with the same key.
const SENDS_MAX = 5;
// How long the door holds one question for the outcome; shorter until it is known that a worker has it, which is news too.
const WAIT_SECONDS = 20;
const WAIT_UNTIL_ACCEPTED_SECONDS = 2;
// A command that the door does not know yet may still be on the queue for so many questions.
const UNKNOWN_MAX = 5;
// What went well is gone by itself after a while; what did not stays until somebody has read it.
const DONE_SHOWN_MS = 30_000;

// No target's name has a space in it.
export function placeOf(template) {
  return `new ${template}`;
}

export class Tickets extends EventTarget {
  #tickets = [];

  at(place) {
    return this.#tickets.filter((ticket) => ticket.place === place);
  }

  dismiss(ticket) {
    this.#tickets = this.#tickets.filter((other) => other !== ticket);
    this.#tell(ticket);
  }

  // Sends it and follows it to its outcome; the ticket tells the rest.
  async send(command) {
    const ticket = {
      key: newId(), place: command.template ? placeOf(command.template) : command.target, name: command.target ?? null,
      action: command.action, state: "sending", note: "", verdict: null,
    };
    // One command's verdict is read when the next is given.
    this.#tickets = this.#tickets.filter((other) => other.place !== ticket.place || other.state !== "over");
    this.#tickets.push(ticket);
    this.#tell(ticket);
    try {
      const { said, path } = await this.#post(ticket, command);
      let answer = said;
      if (answer.target) ticket.name = answer.target;
      if (!answer.outcome) {
        this.#move(ticket, answer.state ?? "sent");
        answer = await this.#follow(ticket, path);
      }
      const { head, detail } = verdictInWords(answer, command.action);
      this.#end(ticket, { kind: answer.outcome.outcome, head, detail });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#end(ticket, problemInWords(error));
    }
    return ticket;
  }

  async #post(ticket, command) {
    for (let tries = 0; ; tries += 1) {
      try {
        return await postCommand(command, ticket.key);
      } catch (error) {
        if (!(error instanceof Problem) || !error.passing || tries + 1 >= SENDS_MAX) throw error;
        this.#note(ticket, `${error.title}; sending it again`);
        await pause(error.retryAfter ? error.retryAfter * 1000 : pauseBefore(tries));
      }
    }
  }

  async #follow(ticket, path) {
    let unknown = 0;
    let failures = 0;
    for (;;) {
      const asked = Date.now();
      try {
        const seconds = ticket.state === "accepted" ? WAIT_SECONDS : WAIT_UNTIL_ACCEPTED_SECONDS;
        const answer = await get(`${path}${path.includes("?") ? "&" : "?"}wait=${seconds}`);
        failures = 0;
        if (answer.outcome) return answer;
        this.#note(ticket, "");
        this.#move(ticket, answer.state);
        // A door that does not wait must not be asked in a tight loop.
        if (Date.now() - asked < 1000) await pause(1000);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.status === 404) {
          unknown += 1;
          if (unknown >= UNKNOWN_MAX) throw error;
        } else if (error.status === 401) {
          // The form is up; what was asked goes on meanwhile, and is asked about again.
          this.#note(ticket, "waiting for a token, to ask how it went");
        } else if (error.passing) {
          this.#note(ticket, `${error.title}; asking again`);
        } else {
          throw error;
        }
        await pause(error.retryAfter ? error.retryAfter * 1000 : pauseBefore(failures, { most: 8000 }));
        failures += 1;
      }
    }
  }

  #move(ticket, state) {
    if (ticket.state === state) return;
    ticket.state = state;
    this.#tell(ticket);
  }

  #note(ticket, note) {
    if (ticket.note === note) return;
    ticket.note = note;
    this.#tell(ticket);
  }

  #end(ticket, verdict) {
    ticket.state = "over";
    ticket.note = "";
    ticket.verdict = verdict;
    this.#tell(ticket);
    announce(`${ticket.name ?? ticket.place}: ${verdict.head}. ${verdict.detail}`);
    if (verdict.kind === "done") setTimeout(() => this.dismiss(ticket), DONE_SHOWN_MS);
  }

  #tell(ticket) {
    this.dispatchEvent(new CustomEvent("ticket", { detail: ticket }));
  }
}

// A refusal of the door itself: the command never became one.
export function problemInWords(problem) {
  const head = {
    0: "The door cannot be reached",
    401: "The token was not accepted",
    403: "This token may not do that",
    404: "The door does not know it",
    429: "Too many requests",
    503: "The door is not ready",
  }[problem.status] ?? problem.title;
  const detail = problem.detail || (problem.status === 0 ? "Is it running, and is there a network?" : "");
  return { kind: "failed", head, detail };
}
