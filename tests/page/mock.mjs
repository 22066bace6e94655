// A door without anything behind it: serves the pages as the real one does, with the same headers, and answers the
// API in the same shapes from a small world in memory whose machines take milliseconds.
//
// `node mock.mjs [--port N] [--fleet small|many|odd] [--token T]` keeps it running, to look at.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { openapi } from "./mock-openapi.mjs";
import { LAUNCHED, fleets, outcomeOf, target as newTarget } from "./mock-world.mjs";

const PAGES = new URL("../../worker/door/src/page/", import.meta.url);

const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
  + "form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml" };

// A machine that is still on its way holds no test up.
const sleep = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds).unref(); });
const iso = (at) => new Date(at).toISOString();

export async function startMock({ port = 0, fleet = "small", token = null, code = null, may = ["read", "command", "admin", "wait"], holder = "*", speed = 1 } = {}) {
  const world = {
    targets: new Map(fleets[fleet]().map((target) => [target.target, target])),
    templates: fleets.templates(fleet),
    history: new Map(),
    commands: new Map(),
    letters: fleets.letters(),
    token,
    // The code of a waiting room's link, and one that was good.
    code,
    expired: undefined,
    may,
    holder,
    // How the next commands end, where it is not well: `{ outcome, cause, message }`.
    verdict: null,
    // Requests to these paths are answered with this status: `{ path, status, times }`.
    broken: [],
    // What was asked, in order.
    requests: [],
    // What the waiting room's state says as `to`, where it is not what was asked.
    echo: undefined,
  };
  const streams = new Set();
  const waiting = new Set();

  // As the door shows a target: without what only this world knows of it.
  const hidden = new Set(["fails", "exclusive", "wait_from"]);
  const shown = (value) => JSON.stringify(value, (key, inner) => (hidden.has(key) ? undefined : inner));

  function tell(name, data) {
    for (const stream of streams) stream.write(`event: ${name}\ndata: ${shown(data)}\n\n`);
  }

  function change(name, fields, what) {
    const target = world.targets.get(name);
    if (!target) return;
    if (fields.phase && fields.phase !== target.phase) fields.since = iso(Date.now());
    Object.assign(target, fields, { rev: target.rev + 1 });
    if (what) {
      if (!world.history.has(name)) world.history.set(name, historyOf(target));
      world.history.get(name).push({ at: iso(Date.now()), rev: target.rev, what });
    }
    tell("target", target);
  }

  function takenOf(template) {
    return [...world.targets.values()].filter((target) => target.template === template.template).length;
  }

  function remove(name) {
    world.targets.delete(name);
    tell("gone", { target: name });
  }

  async function rise(target, holder_, command) {
    const words = target.kind === "ec2-template" ? ["provisioning", "waiting_for_instance"] : ["starting", "wait-running"];
    change(target.target, { phase: words[0], step: target.kind === "ecs-service" ? "start-service" : "start-instance", why: `wanted by ${holder_}` }, `start-instance: wanted by ${holder_}`);
    target.runs.push({ from: iso(Date.now()), ready: null, until: null });
    await sleep(500 * speed);
    change(target.target, { step: words[1], why: "EC2 took the start; it is pending", ec2_state: "pending" });
    await sleep(600 * speed);
    if (target.fails) {
      const failure = { ...target.fails, at: iso(Date.now()) };
      target.runs.at(-1).until = iso(Date.now());
      change(target.target, { phase: "failed", step: null, holds: [], failure, why: failure.message, last_outcome: outcomeOf(command.action, holder_, { ...failure, at: Date.now(), outcome: "failed" }) }, `failed (${failure.cause}): ${failure.message}`);
      return { outcome: "failed", cause: failure.cause, message: failure.message };
    }
    change(target.target, { step: "settle", why: "it runs; left alone until it has settled", ec2_state: "running" });
    await sleep(400 * speed);
    await world.gate;
    target.runs.at(-1).ready = iso(Date.now());
    change(target.target, {
      phase: "on", step: null, overall_status: "running", failure: null, why: `wanted by ${holder_}`,
      last_outcome: outcomeOf(command.action, holder_, { message: "it is on" }),
    }, "it is on");
    return { outcome: "done", message: `${target.target} is on` };
  }

  async function sink(target, why, action, holder_) {
    const launched = target.kind === "ec2-template";
    change(target.target, { phase: launched ? "terminating" : "stopping", step: launched ? "terminate-instance" : "stop-instance", why }, `stop-instance: ${why}`);
    await sleep(500 * speed);
    change(target.target, { step: "wait-stopped", why: "EC2 took the stop; it is stopping", ec2_state: "stopping" });
    await sleep(500 * speed);
    const run = target.runs.at(-1);
    if (run && !run.until) run.until = iso(Date.now());
    change(target.target, { phase: launched ? "absent" : "off", step: null, why: "nobody wants it", ec2_state: "stopped", overall_status: "stopped", last_outcome: outcomeOf(action, holder_, { message: "it is off" }) }, "it is off");
    if (launched) setTimeout(() => remove(target.target), 300 * speed);
  }

  async function carryOut(command, body) {
    await sleep(150 * speed);
    command.state = "accepted";
    command.accepted_at = iso(Date.now());
    const holder_ = body.holder ?? "default";
    const until = body.for ? { kind: "firm", until: iso(Date.now() + lengthOf(body.for)) } : { kind: "until-released" };
    let verdict = world.verdict;
    if (body.action === "create" && !verdict) {
      const template = world.templates.find((one) => one.template === body.template);
      if (takenOf(template) >= template.limit) {
        verdict = { outcome: "rejected", cause: "capacity", message: `all ${template.limit} places of ${template.template} are taken` };
      } else {
        const parameters = Object.fromEntries(Object.entries(body).filter(([name]) => template.parameters.some((one) => one.name === name)));
        const { reason } = body;
        world.targets.set(command.target, newTarget(command.target, {
          kind: "ec2-template", template: body.template, phase: "absent", instance: null, actions: LAUNCHED, runs: [], ...parameters,
          holds: [{ id: command.id, holder: holder_, from: iso(Date.now()), sent: { at: command.sent_at, id: command.id }, ...until, ...(reason ? { reason } : {}) }],
        }));
      }
    }
    const target = world.targets.get(command.target);
    if (verdict) {
      await sleep(200 * speed);
    } else if (!target) {
      verdict = { outcome: "rejected", cause: "not-found", message: `the fleet has no target ${body.target}` };
    } else if (body.action === "create") {
      verdict = await rise(target, holder_, command);
    } else if (body.action === "start") {
      const others = target.exclusive ? target.holds.filter((hold) => hold.holder !== holder_) : [];
      if (others.length > 0) {
        verdict = { outcome: "rejected", cause: "conflict", message: `${others[0].holder} has it` };
      } else {
        target.holds = [...target.holds.filter((hold) => hold.holder !== holder_), {
          id: command.id, holder: holder_, from: iso(Date.now()), ...until,
          sent: { at: command.sent_at, id: command.id }, ...(body.reason ? { reason: body.reason } : {}),
        }];
        verdict = target.phase === "on" ? { outcome: "done", message: "it is on already", answer: { started: false } } : await rise(target, holder_, command);
        if (target.phase === "on") change(target.target, {});
      }
    } else if (body.action === "stop" || body.action === "kill" || body.action === "destroy") {
      target.holds = body.action === "stop" ? target.holds.filter((hold) => hold.holder !== holder_ && hold.kind !== "adopted") : [];
      if (target.holds.length > 0) {
        change(target.target, {});
        verdict = { outcome: "done", message: `not stopped: ${target.holds.map((hold) => hold.holder).join(", ")} still holds it`, answer: { stopped: false } };
      } else {
        await sink(target, body.action === "stop" ? `${holder_} released it` : `killed by ${holder_}`, body.action, holder_);
        verdict = { outcome: "done", message: `${target.target} is off` };
      }
    } else if (body.action === "pause") {
      change(target.target, { paused: { by: holder_, at: iso(Date.now()), ...(body.reason ? { reason: body.reason } : {}) }, actions: target.actions.map((it) => (it === "pause" ? "resume" : it)) }, `paused by ${holder_}`);
      verdict = { outcome: "done", message: "it is only watched now" };
    } else if (body.action === "resume") {
      change(target.target, { paused: null, actions: target.actions.map((it) => (it === "resume" ? "pause" : it)) }, `resumed by ${holder_}`);
      verdict = { outcome: "done", message: "it is acted on again" };
    } else {
      await sleep(300 * speed);
      verdict = { outcome: "done", message: `${body.action} of ${body.target}` };
    }
    command.outcome = {
      command: command.id, target: command.target, action: body.action, answer: {}, at: iso(Date.now()),
      took_ms: Date.now() - Date.parse(command.sent_at), ...verdict,
    };
    command.state = command.outcome.outcome;
  }

  function problem(response, status, title, detail, headers = {}) {
    response.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
    response.end(JSON.stringify({ type: "about:blank", title, status, detail }));
  }

  function json(response, value, status = 200, headers = {}) {
    response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store", ...headers });
    response.end(shown(value));
  }

  async function page(response, name, fill = {}, status = 200) {
    let text;
    try {
      text = await readFile(new URL(name, PAGES), "utf8");
    } catch {
      response.writeHead(404).end();
      return;
    }
    for (const [key, value] of Object.entries(fill)) text = text.replaceAll(`{{${key}}}`, escapeHtml(value));
    response.writeHead(status, {
      "Content-Type": TYPES[name.split(".").pop()] ?? "application/octet-stream", "Content-Security-Policy": CSP,
      "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
    });
    response.end(text);
  }

  function allowed(request, response) {
    if (!world.token || request.headers.authorization === `Bearer ${world.token}`) return true;
    problem(response, 401, "Unauthorized", "a token is needed", { "WWW-Authenticate": "Bearer" });
    return false;
  }

  async function waitingRoom(request, response, url, name, state) {
    const to = url.searchParams.get("to") ?? "";
    const held = request.headers.authorization?.replace("Bearer ", "") ?? url.searchParams.get("token");
    const target = world.targets.get(name);
    const html = request.method === "GET" && !state;
    const given = url.searchParams.get("code");
    if (given !== null && given === world.expired) {
      const detail = "this link expired at 2026-11-30T12:00:00Z";
      if (html) return page(response, "wait_error.html", { title: "This link has expired", detail }, 410);
      return problem(response, 410, "Gone", detail);
    }
    if (world.code ? given !== world.code : world.token && held !== world.token) {
      if (html) return page(response, "wait_error.html", { title: "This link does not open the door", detail: "Its token is not accepted." }, 401);
      return problem(response, 401, "Unauthorized", "a token is needed", { "WWW-Authenticate": "Bearer" });
    }
    if (!target || !/^http:\/\/(127\.0\.0\.1|localhost)[:/]/.test(to)) {
      const detail = target ? `It may not lead to ${to}` : `There is no target ${name}.`;
      if (html) return page(response, "wait_error.html", { title: "This link leads nowhere", detail }, 400);
      return problem(response, 400, "Bad Request", detail);
    }
    if (html) {
      if (url.searchParams.get("asked") && target.phase === "on") return response.writeHead(303, { Location: to }).end();
      return page(response, "wait.html");
    }
    if (request.method === "POST") {
      if (!waiting.has(name)) {
        waiting.add(name);
        const command = { id: `wait-${Date.now()}`, target: name, action: "start", sent_at: iso(Date.now()) };
        target.wait_from = Date.now();
        carryOut(command, { action: "start", target: name, holder: "waiting-room" }).then(() => waiting.delete(name));
      }
      if (request.headers["content-type"]?.startsWith("application/x-www-form-urlencoded")) {
        url.searchParams.set("asked", "1");
        return response.writeHead(303, { Location: `${url.pathname}${url.search}` }).end();
      }
    }
    return json(response, {
      target: name, phase: target.phase, step: target.step, why: target.why, ready: target.phase === "on",
      failed: target.phase === "failed" ? `${target.failure.cause}: ${target.failure.message}` : null, since: target.since,
      usual_seconds: target.usual_start_seconds, elapsed_seconds: (Date.now() - (target.wait_from ?? Date.now())) / 1000,
      to: world.echo === undefined ? to : world.echo,
    }, request.method === "POST" ? 202 : 200);
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, `http://${request.headers.host}`);
    const { pathname } = url;
    let text = "";
    for await (const chunk of request) text += chunk;
    world.requests.push({ method: request.method, path: request.url, headers: request.headers, body: text });
    const broken = world.broken.find((it) => pathname.startsWith(it.path) && it.times > 0);
    if (broken) {
      broken.times -= 1;
      if (broken.status === 0) return request.socket.destroy();
      return problem(response, broken.status, "Service Unavailable", "the queue does not answer", { "Retry-After": "1" });
    }
    const wait = /^\/wait\/([^/]+)(\/state)?$/.exec(pathname);
    if (wait) return waitingRoom(request, response, url, decodeURIComponent(wait[1]), Boolean(wait[2]));
    if (pathname === "/") return page(response, "index.html");
    if (pathname === "/docs") return page(response, "docs.html");
    if (pathname === "/openapi.json") return json(response, openapi());
    if (pathname === "/landing") return response.writeHead(200, { "Content-Type": "text/html" }).end("<h1>Arrived</h1>");
    const asset = /^\/assets\/([a-z_-]+\.(?:js|css|svg))$/.exec(pathname);
    if (asset) return page(response, asset[1]);
    if (!pathname.startsWith("/v1/")) return problem(response, 404, "Not Found", `there is no ${pathname}`);
    if (!allowed(request, response)) return undefined;
    return api(request, response, url, text);
  });

  async function api(request, response, url, text) {
    const parts = url.pathname.split("/").slice(2).map(decodeURIComponent);
    const [what, name, more] = parts;
    if (what === "me") {
      return json(response, { auth: world.token ? "tokens" : "none", name: world.token ? "tester" : null, may: world.may, holder: world.holder, targets: ["*"] });
    }
    if (!world.may.includes("read")) return problem(response, 403, "Forbidden", "the right read is needed");
    if (what === "events") {
      response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
      for (const target of world.targets.values()) response.write(`event: target\ndata: ${shown(target)}\n\n`);
      response.write(": hello\n\nevent: ready\ndata: {}\n\n");
      streams.add(response);
      request.socket.on("close", () => streams.delete(response));
      return undefined;
    }
    if (what === "templates") return json(response, { templates: world.templates.map((one) => ({ ...one, taken: takenOf(one), actions: world.may.includes("command") ? one.actions : [] })) });
    if (what === "targets" && !name) return json(response, { targets: [...world.targets.values()] });
    if (what === "targets") {
      const target = world.targets.get(name);
      if (!target) return problem(response, 404, "Not Found", `the fleet has no target ${name}`);
      if (more === "history") return json(response, { target: name, entries: world.history.get(name) ?? historyOf(target), runs: target.runs });
      return json(response, target);
    }
    if (what === "commands" && request.method === "POST") {
      const body = JSON.parse(text);
      const id = request.headers["idempotency-key"] ?? body.id ?? `c-${Date.now()}`;
      let command = world.commands.get(id);
      if (!command) {
        const target = body.action === "create" ? `${body.template}.${createHash("sha256").update(id).digest("hex").slice(0, 16)}` : body.target;
        command = { id, action: body.action, target, state: "sent", sent_at: iso(Date.now()), accepted_at: null, outcome: null };
        world.commands.set(id, command);
        carryOut(command, body);
      }
      return json(response, command, 202, { Location: `/v1/commands/${encodeURIComponent(id)}?sent=${Math.floor(Date.now() / 1000)}` });
    }
    if (what === "commands") {
      const command = world.commands.get(name);
      if (!command) return problem(response, 404, "Not Found", `no command ${name}`);
      const end = Date.now() + 1000 * Number(url.searchParams.get("wait") ?? 0);
      while (!command.outcome && Date.now() < end && !request.socket.destroyed) await sleep(20);
      return json(response, command);
    }
    if (what === "dead-letters") {
      if (!world.may.includes("admin")) return problem(response, 403, "Forbidden", "the right admin is needed");
      if (request.method === "GET") return json(response, { messages: world.letters, more: false });
      const body = JSON.parse(text);
      const before = world.letters.length;
      world.letters = body.all ? [] : world.letters.filter((letter) => letter.message_id !== body.id && letter.id !== body.id);
      return json(response, { replayed: before - world.letters.length, kept: world.letters.length });
    }
    return problem(response, 404, "Not Found", `there is no ${url.pathname}`);
  }

  await new Promise((resolve) => { server.listen(port, "127.0.0.1", resolve); });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    world,
    change,
    remove,
    tell,
    streams,
    // Nothing that starts comes on until it is released: a test that reads what stands on the way there takes its time.
    hold() {
      world.gate = new Promise((resolve) => { world.release = resolve; });
    },
    release() {
      world.release();
    },
    // Every event stream ends at once, as when a proxy goes.
    cut() {
      for (const stream of streams) stream.destroy();
      streams.clear();
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => { server.close(resolve); });
    },
  };
}

function historyOf(target) {
  const from = Date.parse(target.runs?.at(-1)?.from) || Date.now() - 60_000;
  return [
    { at: iso(from - 5000), rev: 1, what: "first seen: stopped" },
    { at: iso(from), rev: 2, what: "start-instance: the hold of user-42 is in force" },
    { at: iso(from + 4000), rev: 3, what: "EC2 took it" },
    { at: iso(from + 15000), rev: 4, what: "it is on" },
  ];
}

function lengthOf(text) {
  const unit = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000 };
  return [...text.matchAll(/(\d+)([dhms])/g)].reduce((sum, [, n, u]) => sum + Number(n) * unit[u], 0);
}

function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const option = (name, otherwise) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? otherwise : process.argv[at + 1];
  };
  const mock = await startMock({
    port: Number(option("port", 8080)), fleet: option("fleet", "small"), token: option("token", null), speed: Number(option("speed", 4)),
  });
  console.log(mock.url);
}
