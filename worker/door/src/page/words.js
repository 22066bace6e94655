// Machine words into people's words. No DOM, no network, no clock of its own.
//
// A phase has five shapes, whatever its kind calls them: what is launched for each request is `absent`, `provisioning`
// or `terminating` where others are `off`, `starting` or `stopping`.

export const PHASES = ["on", "starting", "stopping", "off", "failed"];

const SHAPE_OF_WORD = { absent: "off", provisioning: "starting", terminating: "stopping" };

export function phaseOf(target) {
  const word = String(target.phase ?? "");
  const phase = SHAPE_OF_WORD[word] ?? word;
  return PHASES.includes(phase) ? phase : "unknown";
}

const STEPS = {
  "wait-stopped-first": "waiting until it has stopped, to start it again",
  "start-instance": "asking EC2 to start it",
  "restore-scaling": "giving auto scaling its bounds back",
  "start-service": "asking ECS for its tasks",
  "launch-instance": "asking EC2 for a machine",
  "waiting_for_instance": "waiting for the machine to boot",
  "waiting_for_ssm": "waiting for the machine's agent",
  "fetching_blob": "preparing the machine",
  "wait-running": "waiting until it runs",
  "settle": "letting it settle",
  "verify-unit": "asking whether its service is up",
  "verify-health": "waiting for its health check",
  "wait-stoppable": "waiting until it can be stopped",
  "stop-instance": "asking EC2 to stop it",
  "terminate-instance": "asking EC2 to terminate it",
  "suspend-scaling": "holding auto scaling down",
  "stop-service": "asking ECS to stop its tasks",
  "wait-stopped": "waiting until it has stopped",
};

export function stepInWords(step) {
  return step ? (STEPS[step] ?? String(step).replaceAll(/[-_]/g, " ")) : "";
}

const KINDS = {
  "ec2-instance": "EC2 machine",
  "ecs-service": "ECS service",
  "ec2-template": "launched machine",
  "ecs-tenant": "tenant",
};

export function kindInWords(kind) {
  return KINDS[kind] ?? String(kind ?? "");
}

const CAUSES = {
  "capacity": "no capacity",
  "throttled": "AWS asked for a slower pace",
  "denied": "not permitted",
  "not-found": "it does not exist",
  "bounced": "it started and fell back",
  "unit-failed": "its service does not run",
  "unhealthy": "its health check does not answer",
  "agent-unreachable": "its agent was not heard",
  "deadline": "it took too long",
  "conflict": "somebody else has it",
  "invalid": "not understood",
  "superseded": "a newer command undid it",
  "expired": "it came too late",
};

export function causeInWords(cause) {
  return CAUSES[cause] ?? String(cause ?? "");
}

const HOLD_KINDS = {
  "firm": "for a fixed time",
  "idle-bounded": "until it is idle",
  "until-released": "until released",
  "adopted": "found running",
  "window": "office hours",
};

export function holdKindInWords(kind) {
  return HOLD_KINDS[kind] ?? String(kind ?? "");
}

// What a button says, and what is said while its command is on its way.
export const ACTIONS = {
  "start": { label: "Start", doing: "Starting" },
  "stop": { label: "Stop", doing: "Stopping" },
  "kill": { label: "Kill", doing: "Killing", danger: true },
  "destroy": { label: "Destroy", doing: "Destroying", danger: true },
  "create": { label: "Create", doing: "Creating" },
  "pause": { label: "Pause", doing: "Pausing" },
  "resume": { label: "Resume", doing: "Resuming" },
  "keep-alive": { label: "Keep alive", doing: "Keeping alive" },
  "check-idle": { label: "Check if idle", doing: "Checking whether it is idle" },
  "status": { label: "Ask how it is", doing: "Asking how it is" },
};

export function actionInWords(action) {
  return ACTIONS[action] ?? { label: String(action), doing: String(action) };
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

// A length of time, to the precision that somebody who looks at it wants: `42 s`, `5 min`, `3 h 20 min`, `2 d 4 h`.
export function lengthInWords(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < MINUTE) return `${s} s`;
  if (s < HOUR) return `${Math.floor(s / MINUTE)} min`;
  if (s < DAY) {
    const minutes = Math.floor((s % HOUR) / MINUTE);
    return `${Math.floor(s / HOUR)} h${minutes ? ` ${minutes} min` : ""}`;
  }
  const hours = Math.floor((s % DAY) / HOUR);
  return `${Math.floor(s / DAY)} d${hours && s < 10 * DAY ? ` ${hours} h` : ""}`;
}

// Hours with one digit, for sums; of less than one hour the minutes.
export function hoursInWords(milliseconds) {
  const hours = milliseconds / 3_600_000;
  return hours > 0 && hours < 1 ? lengthInWords(milliseconds / 1000) : `${hours.toFixed(1)} h`;
}

export function momentOf(text) {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? null : at;
}

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY_AND_CLOCK = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});
const WEEKDAY_AND_CLOCK = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const DAY_OF_MONTH = new Intl.DateTimeFormat(undefined, { day: "numeric" });

export const fullTime = (at) => FULL.format(at);
export const clockTime = (at) => CLOCK.format(at);
export const clockWithSeconds = (at) => SECONDS.format(at);
export const dayAndClock = (at) => DAY_AND_CLOCK.format(at);
export const dateInWords = (at) => DATE.format(at);
export const weekdayInWords = (at) => WEEKDAY.format(at);
export const dayOfMonth = (at) => DAY_OF_MONTH.format(at);

// `18:00` where that is today, with the weekday where that is enough, else with the date.
export function shortTime(at, now) {
  if (new Date(at).toDateString() === new Date(now).toDateString()) return clockTime(at);
  return Math.abs(at - now) < 6 * DAY * 1000 ? WEEKDAY_AND_CLOCK.format(at) : dayAndClock(at);
}

export function count(n, one, many = `${one}s`) {
  return `${n} ${n === 1 ? one : many}`;
}

// What became of a target's last command: `start by ana: failed (unit-failed)`, and what was said of it.
export function lastInWords(last) {
  const cause = last.cause ? ` (${last.cause})` : "";
  return { head: `${last.action} by ${last.holder}: ${last.outcome}${cause}`, detail: String(last.message ?? "") };
}

// A command's outcome as a headline and a sentence.
export function verdictInWords(command, asked) {
  const outcome = command.outcome;
  const took = outcome.took_ms >= 1000 ? ` after ${lengthInWords(outcome.took_ms / 1000)}` : "";
  const { label } = actionInWords(asked);
  const cause = outcome.cause ? ` (${outcome.cause}: ${causeInWords(outcome.cause)})` : "";
  const head = {
    done: `${label}: done${took}`,
    rejected: `${label}: rejected${cause}`,
    failed: `${label}: failed${took}${cause}`,
  }[outcome.outcome] ?? `${label}: ${outcome.outcome}`;
  return { head, detail: String(outcome.message ?? "") };
}
