// What there is in the mock's world.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const iso = (at) => new Date(at).toISOString();

const MACHINE = ["start", "stop", "kill", "keep-alive", "status", "pause"];
export const LAUNCHED = ["stop", "kill", "destroy", "status", "pause"];

// What became of a target's last command, as the door tells it.
export function outcomeOf(action, holder, { at = Date.now(), outcome = "done", message = "", ...more } = {}) {
  return { command: `${action}-${at}`, action, holder, outcome, message, at: iso(at), ...more };
}

export function target(name, fields = {}) {
  const now = Date.now();
  const phase = fields.phase ?? "off";
  const on = phase === "on";
  return {
    target: name, kind: "ec2-instance", phase, step: null, wanted: on, holds: [],
    observed: { kind: "instance", state: on ? "running" : "stopped", at: iso(now - 40_000) }, observed_age_seconds: 40,
    why: on ? "somebody holds it" : "nobody wants it", since: iso(now - 3 * HOUR), lock_status: on ? "running" : "idle", holder: null,
    instance: "i-0abc123def456", suppressed_until: null, expires_at: null, ec2_state: on ? "running" : "stopped",
    service_state: on ? "active" : "n/a", overall_status: on ? "running" : "stopped",
    instance_status: { ec2_state: on ? "running" : "stopped", service_state: "n/a", overall_status: on ? "running" : "stopped" },
    failure: null, paused: null, unanswered: [], wake_at: null, rev: 12,
    last_outcome: null, usual_start_seconds: 14, runs: [], actions: MACHINE, stop_destroys: false, ...fields,
  };
}

function hold(holder, fields = {}) {
  const from = fields.from ?? iso(Date.now() - 90 * MINUTE);
  return { id: `h-${holder}`, holder, kind: "until-released", from, sent: { at: from, id: `h-${holder}` }, ...fields };
}

// Office days of a week, drawn from the name so that each run shows the same.
function week(seed, { open = false } = {}) {
  const now = Date.now();
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  let state = [...seed].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 2147483647, 7);
  const chance = () => { state = (state * 48271) % 2147483647; return state / 2147483647; };
  const runs = [];
  for (let day = 7; day >= 1; day -= 1) {
    if (chance() < 0.2) continue;
    const from = midnight - day * DAY + (7 + 3 * chance()) * HOUR;
    runs.push({ from: iso(from), ready: iso(from + (2 + 25 * chance()) * MINUTE), until: iso(from + (3 + 8 * chance()) * HOUR) });
    if (chance() > 0.6) runs.push({ from: iso(from + 12 * HOUR), ready: iso(from + 12.2 * HOUR), until: iso(from + 13.5 * HOUR) });
  }
  if (open) runs.push({ from: iso(now - 3.1 * HOUR), ready: iso(now - 3 * HOUR), until: null });
  return runs.filter((run) => !run.until || Date.parse(run.until) < now - 3.5 * HOUR || !open);
}

function small() {
  const now = Date.now();
  return [
    target("position-keeper", {
      phase: "on", exclusive: true, wanted: true, holder: "user-42", why: "held by user-42 until 18:00", lock_status: "running",
      holds: [hold("user-42", { kind: "firm", until: iso(now + 2.3 * HOUR), reason: "nightly batch" })],
      instance: "i-01f5d046c86e4f36e", expires_at: iso(now + 2.3 * HOUR), runs: week("pk", { open: true }),
      last_outcome: outcomeOf("start", "user-42", { at: now - 3 * HOUR, message: "it is on" }), usual_start_seconds: 34,
    }),
    target("pyelli", { why: "nobody wants it", runs: week("pyelli"), last_outcome: outcomeOf("stop", "default", { at: now - 19 * HOUR, message: "it is off" }), since: iso(now - 19 * HOUR) }),
    target("render-box", {
      phase: "failed", why: "its unit renderer is failed", instance: "i-0feed0beef0", since: iso(now - 12 * MINUTE), runs: week("render"),
      fails: { cause: "unit-failed", message: "renderer is failed: main process exited, code 1" },
      failure: { cause: "unit-failed", message: "renderer is failed: main process exited, code 1", at: iso(now - 12 * MINUTE) },
      last_outcome: outcomeOf("start", "ana", { at: now - 12 * MINUTE, outcome: "failed", cause: "unit-failed", message: "renderer is failed" }),
    }),
    target("fluidity", {
      kind: "ecs-service", phase: "starting", step: "start-service", wanted: true, instance: "fluidity-demo/fluidity-server-demo",
      holds: [hold("maria", { kind: "idle-bounded", from: iso(now - 25_000), reason: "demo for the board" }), hold("office hours", { kind: "window", from: iso(now - 20_000), until: iso(now + 7 * HOUR) })],
      why: "1 of 2 tasks run; waiting for all of them", since: iso(now - 25_000), desiredCount: 2, runningCount: 1, pendingCount: 1, runs: [...week("fluid"), { from: iso(now - 25_000), ready: null, until: null }],
      usual_start_seconds: 60, actions: [...MACHINE, "check-idle"],
    }),
    target("build-farm", {
      phase: "stopping", step: "wait-stopped", why: "EC2 took the stop; it is stopping", since: iso(now - 40_000), runs: week("farm", { open: true }), instance: "i-0b0b0b0b0b0b",
    }),
    target("reports", {
      phase: "on", wanted: true, why: "found running: somebody started it outside", holds: [hold("adopted", { kind: "adopted", from: iso(now - 2 * DAY) })], since: iso(now - 2 * DAY),
      paused: { by: "ops", at: iso(now - HOUR), reason: "moving its disk" }, actions: MACHINE.map((it) => (it === "pause" ? "resume" : it)), instance: "i-0cafe0cafe0",
      runs: [...week("rep").slice(0, 3), { from: iso(now - 2 * DAY), ready: iso(now - 2 * DAY), until: null }],
    }),
    target("staging", { runs: week("stage"), since: iso(now - 30 * HOUR), instance: "i-0aaaa1111bbbb" }),
    target("walrus.6f2a91c04be7d358", {
      kind: "ec2-template", stop_destroys: true, template: "walrus", phase: "on", wanted: true, instance_id: "i-0d1e2f3a4b5c", instance: "i-0d1e2f3a4b5c", name: "walrus-vm-20261120-101500-ab12", public_ip: "203.0.113.24",
      processing_status: "ready", created_at: iso(now - 22 * MINUTE), error: null, cost: 0.41, blob_id: "Qm-bert-large", since: iso(now - 20 * MINUTE),
      holds: [hold("api", { kind: "firm", until: iso(now + 38 * MINUTE) })], why: "held by api", actions: LAUNCHED,
      runs: [{ from: iso(now - 22 * MINUTE), ready: iso(now - 20 * MINUTE), until: null }],
    }),
    target("walrus.b07c33d1a2e94f66", {
      kind: "ec2-template", stop_destroys: true, template: "walrus", phase: "provisioning", step: "waiting_for_ssm", wanted: true, instance_id: "i-0987654321ab", instance: "i-0987654321ab", public_ip: "203.0.113.77",
      processing_status: "waiting_for_ssm", created_at: iso(now - 70_000), error: null, cost: 0.01, since: iso(now - 70_000), usual_start_seconds: null,
      holds: [hold("api", { kind: "firm", until: iso(now + 59 * MINUTE) })], why: "it runs; waiting for its agent", actions: LAUNCHED,
      runs: [{ from: iso(now - 70_000), ready: null, until: null }],
    }),
  ];
}

const NASTY = "<img src=x onerror=\"window.hurt=1\"><script>window.hurt=1</script>";

function odd() {
  const now = Date.now();
  return [
    target("a".repeat(63), { phase: "on", why: NASTY, holds: [hold(NASTY, { reason: NASTY }), ...Array.from({ length: 9 }, (_, n) => hold(`user-${n}`))] }),
    target("nasty", {
      phase: "failed", failure: { cause: "unit-failed", message: NASTY, at: iso(now) }, kind: NASTY, why: NASTY, runs: [{ from: "not a time", ready: null, until: null }],
      last_outcome: outcomeOf(NASTY, NASTY, { outcome: NASTY, message: NASTY }), paused: { by: NASTY, at: iso(now), reason: NASTY }, instance: NASTY, parameter: NASTY,
    }),
    // Never looked at, of a phase and with an action that nobody has heard of.
    { target: "bare", phase: "dreaming", actions: ["levitate"], since: "", rev: 0 },
    target("no-rights", { actions: [] }),
    target("future", { phase: "on", holds: [hold("s", { from: iso(now + HOUR), until: iso(now + 2 * HOUR) })], runs: [{ from: iso(now + HOUR), ready: null, until: null }, { from: iso(now - 400 * DAY), ready: iso(now - 399 * DAY), until: null }] }),
  ];
}

function many() {
  const phases = ["off", "off", "off", "on", "starting", "stopping", "failed", "off", "on", "off"];
  return Array.from({ length: 1000 }, (_, n) => target(`box-${String(n).padStart(4, "0")}`, {
    phase: phases[n % 10], runs: n % 3 ? week(`box-${n}`) : [], holds: phases[n % 10] === "on" ? [hold(`user-${n % 7}`)] : [],
    failure: phases[n % 10] === "failed" ? { cause: "capacity", message: "no capacity in eu-central-1a", at: iso(Date.now()) } : null,
  }));
}

function letters() {
  const now = Date.now();
  return [
    { message_id: "0d6f3c1e-2a55-4f6e-9c1b-77d2b9a1e001", id: "nightly-2026-11-20", reason: "unknown-target", message: "the fleet has no target nightly-box", sent_at: iso(now - 3 * HOUR), bytes: 184 },
    { message_id: "0d6f3c1e-2a55-4f6e-9c1b-77d2b9a1e002", id: null, reason: "not-json", message: "expected value at line 1 column 1", sent_at: iso(now - 26 * HOUR), bytes: 12 },
    { message_id: "0d6f3c1e-2a55-4f6e-9c1b-77d2b9a1e003", id: "x-77", reason: "unknown-field", message: `unknown field ${NASTY}`, sent_at: iso(now - 50 * HOUR), bytes: 96_211 },
  ];
}

// What machines can be made from. Of `idle-box` there is none yet, and nothing has to be said to make one.
function templates(fleet) {
  const named = (name, more = {}) => ({ name, default: null, required: false, ...more });
  if (fleet !== "small") return [];
  return [
    { template: "walrus", limit: 3, parameters: [named("aggregator", { default: "https://aggregator.example" }), named("blob_id"), named("object_id")], one_of: ["blob_id", "object_id"], actions: ["create"] },
    { template: "idle-box", limit: 1, parameters: [named("image", { required: true }), named("note")], one_of: [], actions: ["create"] },
  ];
}

export const fleets = { small, odd, many, letters, templates };
