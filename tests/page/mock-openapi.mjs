// A small OpenAPI document with every shape that the interactive page has to draw.

const ref = (name) => ({ $ref: `#/components/schemas/${name}` });
const json = (schema, example) => ({ "application/json": { schema, ...(example ? { example } : {}) } });
const problem = { description: "What was wrong.", content: { "application/problem+json": { schema: ref("Problem") } } };
const name = { name: "name", in: "path", required: true, description: "The target's name in the fleet.", schema: ref("TargetName"), example: "pyelli" };

export function openapi() {
  return {
    openapi: "3.1.0",
    info: { title: "Lamplighter", version: "1.0.0", description: "Keeps cloud compute on exactly while someone needs it.\n\nCommands are sent with `POST /v1/commands`; what is, is read from `/v1/targets`." },
    tags: [{ name: "commands", description: "What is asked." }, { name: "targets", description: "What is." }, { name: "health" }],
    security: [{ bearer: [] }],
    paths: {
      "/v1/commands": {
        post: {
          operationId: "sendCommand", tags: ["commands"], summary: "Send a command", description: "Sends a command to the queue. With `?wait=` it answers when its outcome is there.",
          parameters: [
            { name: "Idempotency-Key", in: "header", description: "Its id: the same key is the same command.", schema: { type: "string", maxLength: 256 } },
            { name: "wait", in: "query", description: "Seconds to wait for the outcome.", schema: { type: "integer", minimum: 0, maximum: 600, default: 0 } },
          ],
          requestBody: { required: true, content: { "application/json": { schema: ref("CommandRequest"), examples: { start: { summary: "Start for two hours", value: { action: "start", target: "pyelli", for: "2h", reason: "a demo" } }, stop: { summary: "Stop", value: { action: "stop", target: "pyelli" } } } } } },
          responses: { 200: { description: "Its outcome came in time.", content: json(ref("Command")) }, 202: { description: "It is sent.", headers: { Location: { description: "Where to ask for its outcome.", schema: { type: "string" } } }, content: json(ref("Command")) }, 401: problem, 422: problem },
        },
      },
      "/v1/commands/{id}": {
        get: { operationId: "command", tags: ["commands"], summary: "How a command goes", parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }, { $ref: "#/components/parameters/wait" }], responses: { 200: { description: "The command.", content: json(ref("Command")) }, 404: problem } },
      },
      "/v1/targets": { get: { operationId: "targets", tags: ["targets"], summary: "All targets", responses: { 200: { description: "Those that the token may see.", content: json({ type: "object", properties: { targets: { type: "array", items: ref("Target") } }, required: ["targets"] }) }, 401: problem } } },
      "/v1/targets/{name}": { parameters: [name], get: { operationId: "target", tags: ["targets"], summary: "One target", responses: { 200: { description: "The target.", content: json(ref("Target")) }, 404: problem } } },
      "/v1/events": { get: { operationId: "events", tags: ["targets"], summary: "Changes as they happen", description: "Server-sent events.", responses: { 200: { description: "Events without end.", content: { "text/event-stream": { schema: { type: "string" } } } } } } },
      "/v1/dead-letters/replay": { post: { operationId: "replay", tags: ["commands"], summary: "Replay dead letters", deprecated: true, requestBody: { content: json({ oneOf: [{ type: "object", title: "One", properties: { id: { type: "string" } }, required: ["id"] }, { type: "object", title: "All", properties: { all: { const: true } }, required: ["all"] }] }) }, responses: { 200: { description: "How many." } } } },
      "/v1/me": { get: { operationId: "me", tags: ["health"], summary: "Who asks", responses: { 200: { description: "Its rights." } } } },
      "/healthz": { get: { operationId: "healthz", tags: ["health"], security: [], summary: "Whether the process lives", responses: { 200: { description: "It does.", content: { "text/plain": { schema: { type: "string" } } } } } } },
    },
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      parameters: { wait: { name: "wait", in: "query", description: "Seconds to wait.", schema: { type: "integer", minimum: 0, maximum: 600 } } },
      schemas: {
        TargetName: { type: "string", pattern: "^[a-z0-9][a-z0-9._-]{0,62}$", description: "a name of 1 to 63 of a-z, 0-9, '.', '_' and '-'" },
        Action: { type: "string", enum: ["start", "stop", "kill", "pause", "resume"] },
        CommandRequest: { type: "object", description: "What a user asks for.", required: ["action"], properties: { action: { allOf: [ref("Action")], description: "What is to be done." }, target: ref("TargetName"), holder: { type: "string", maxLength: 128 }, for: { type: "string", description: "How long the hold lasts.", examples: ["2h"] }, until: { anyOf: [{ type: "string", format: "date-time" }, { type: "number", minimum: 0 }] }, reason: { type: "string", maxLength: 512 } }, additionalProperties: false },
        Command: { type: "object", required: ["id", "state"], properties: { id: { type: "string" }, action: ref("Action"), target: { anyOf: [ref("TargetName"), { type: "null" }] }, state: { type: "string", enum: ["sent", "accepted", "done", "rejected", "failed"] }, sent_at: { type: "string", format: "date-time" }, outcome: { anyOf: [ref("Outcome"), { type: "null" }] } } },
        Outcome: { type: "object", required: ["outcome", "message"], properties: { outcome: { oneOf: [{ const: "done", description: "What was asked is so." }, { const: "rejected", description: "It was not begun." }, { const: "failed", description: "It did not succeed." }] }, message: { type: "string" }, took_ms: { type: "integer", format: "uint64", minimum: 0 }, answer: { type: "object", additionalProperties: true } } },
        Hold: { type: "object", properties: { holder: { type: "string" }, until: { type: ["string", "null"], format: "date-time" }, parent: { anyOf: [ref("Hold"), { type: "null" }], description: "It knows itself." } } },
        Target: { type: "object", required: ["target", "phase"], properties: { target: ref("TargetName"), phase: { type: "string" }, holds: { type: "array", items: ref("Hold") }, rev: { type: "integer" } } },
        Problem: { type: "object", description: "RFC 9457.", properties: { type: { type: "string" }, title: { type: "string" }, status: { type: "integer" }, detail: { type: "string" } } },
      },
    },
  };
}
