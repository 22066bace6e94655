//! The endpoint's own paths under `/_lamplighter/`: what a person at the console, or a test, does to the
//! world beside AWS's own calls.
//!
//! They change machines and services without asking a policy, so they answer to this machine alone: a request whose
//! `Host` or `Origin` is not a loopback name is refused, or a page in a browser could reach them through
//! a name of its own that it points here.

use std::collections::BTreeMap;
use std::sync::Arc;

use awsim_core::AppState;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::routing::{get, post, put};
use jiff::{SignedDuration, Timestamp};
use lamplighter_cloud::delivery::Unrest;
use lamplighter_cloud::queue::Disorder;
use lamplighter_cloud::{
    Behaviour, Machine, Service, ServiceBehaviour, ServiceFault as _, Shortage, World,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::decorator::Desk;
use crate::faults::{Fault, Latency, zones_out};

type Answer = Response<Body>;
type Params = Query<BTreeMap<String, String>>;

type At = State<Arc<Desk>>;

/// The routes; `desk` is what they look at and change.
pub(crate) fn router(desk: &Arc<Desk>) -> Router<Arc<AppState>> {
    Router::new()
        .route("/health", get(|| async { ok(&json!({"status": "ok"})) }))
        .route("/calls", get(calls).delete(clear_calls))
        .route("/counts", get(counts))
        .route("/faults", get(faults).put(put_faults).delete(clear_faults))
        .route("/latency", put(put_latency).delete(clear_latency))
        .route("/policy", put(put_policy).delete(clear_policies))
        .route("/disorder", put(put_disorder))
        .route("/deliveries", put(put_deliveries))
        .route("/executions", get(executions))
        .route("/launches", get(launches))
        .route("/shortages", put(put_shortages).delete(clear_shortages))
        .route("/machines", get(machines))
        .route("/machines/{id}", get(machine).put(put_machine))
        .route("/machines/{id}/{verb}", post(change_machine))
        .route("/machines/{id}/units/{unit}/{verb}", post(change_unit))
        .route("/services", get(services))
        .route("/services/{cluster}/{name}", get(service).put(put_service))
        .route("/services/{cluster}/{name}/{verb}", post(change_service))
        .fallback(no_path)
        .layer(middleware::from_fn(loopback_only))
        .with_state(Arc::clone(desk))
}

async fn no_path(request: Request) -> Answer {
    let text = format!("no path /_lamplighter{}", request.uri().path());
    refusal(StatusCode::NOT_FOUND, &text)
}

/// Refuses whoever did not address this machine by a loopback name.
async fn loopback_only(request: Request, next: Next) -> Answer {
    let headers = request.headers();
    let host = header_text(headers, header::HOST);
    let origin = headers.get(header::ORIGIN).map(|_| header_text(headers, header::ORIGIN));
    let from_here =
        origin.is_none_or(|it| it.split_once("://").is_some_and(|(_, it)| is_loopback(it)));
    if is_loopback(host) && from_here {
        return next.run(request).await;
    }
    let text = "these paths answer only to 127.0.0.1, localhost or [::1] as Host and Origin";
    refusal(StatusCode::FORBIDDEN, text)
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn is_loopback(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => authority,
    };
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn ok(value: &Value) -> Answer {
    answer(StatusCode::OK, value)
}

fn refusal(status: StatusCode, text: &str) -> Answer {
    answer(status, &json!({"error": text}))
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Box<Answer>> {
    serde_json::from_slice(body).map_err(|error| {
        Box::new(refusal(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}")))
    })
}

async fn calls(State(desk): At, query: Params) -> Answer {
    let since = match query.get("since").map(|text| text.parse::<u64>()) {
        None => 0,
        Some(Ok(since)) => since,
        Some(Err(_)) => {
            return refusal(StatusCode::BAD_REQUEST, "since must be the seq of a call, a number");
        }
    };
    ok(&json!({"calls": desk.calls.since(since)}))
}

async fn clear_calls(State(desk): At) -> Answer {
    desk.calls.clear();
    ok(&json!({"cleared": true}))
}

async fn counts(State(desk): At) -> Answer {
    ok(&json!(desk.calls.counts()))
}

async fn faults(State(desk): At) -> Answer {
    ok(&json!({"faults": desk.faults.list()}))
}

async fn clear_faults(State(desk): At) -> Answer {
    desk.faults.set(Vec::new());
    desk.shared.with(|world, _| world.machines.zones_out.clear());
    ok(&json!({"faults": []}))
}

async fn put_latency(State(desk): At, body: Bytes) -> Answer {
    match parse::<Latency>(&body) {
        Ok(latency) => {
            desk.faults.set_latency(Some(latency));
            ok(&json!({"latency": "set"}))
        }
        Err(refusal) => *refusal,
    }
}

async fn clear_latency(State(desk): At) -> Answer {
    desk.faults.set_latency(None);
    ok(&json!({"latency": null}))
}

async fn clear_policies(State(desk): At) -> Answer {
    desk.policies.clear();
    ok(&json!({"policy": null}))
}

async fn put_disorder(State(desk): At, body: Bytes) -> Answer {
    match parse::<Disorder>(&body) {
        Ok(disorder) => {
            desk.shared.with(|world, _| world.queues.disorder = disorder);
            ok(&json!({"disorder": "set"}))
        }
        Err(refusal) => *refusal,
    }
}

async fn put_deliveries(State(desk): At, body: Bytes) -> Answer {
    match parse::<Unrest>(&body) {
        Ok(unrest) => {
            desk.shared.with(|world, _| world.deliveries.unrest = unrest);
            ok(&json!({"deliveries": "set"}))
        }
        Err(refusal) => *refusal,
    }
}

async fn executions(State(desk): At) -> Answer {
    ok(&desk.shared.read(|world, _| json!(world.commands.all_executions())))
}

async fn clear_shortages(State(desk): At) -> Answer {
    desk.shared.with(|world, _| world.launches.shortages.clear());
    ok(&json!({"shortages": []}))
}

async fn put_faults(State(desk): At, body: Bytes) -> Answer {
    // One fault, a list of them, or what GET returns.
    let value = match parse::<Value>(&body) {
        Ok(Value::Object(mut fields)) if fields.contains_key("faults") => {
            fields.remove("faults").unwrap_or_default()
        }
        Ok(Value::Array(faults)) => Value::Array(faults),
        Ok(one) => Value::Array(vec![one]),
        Err(refusal) => return *refusal,
    };
    let checked = |faults: Vec<Fault>| {
        let checked: Result<(), String> = faults.iter().try_for_each(Fault::check);
        checked.map(|()| faults)
    };
    let faults = serde_json::from_value::<Vec<Fault>>(value).map_err(|error| error.to_string());
    match faults.and_then(checked) {
        Ok(faults) => {
            desk.shared.with(|world, _| world.machines.zones_out = zones_out(&faults));
            desk.faults.set(faults);
            ok(&json!({"faults": desk.faults.list()}))
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, &format!("a fault cannot be read: {error}")),
    }
}

async fn put_policy(State(desk): At, query: Params, body: Bytes) -> Answer {
    let Ok(text) = std::str::from_utf8(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "the policy is not UTF-8");
    };
    let key = query.get("access_key").cloned();
    // As in IAM, a policy takes a while to arrive everywhere.
    let after = match query.get("after").map(|text| text.parse::<SignedDuration>()) {
        None => SignedDuration::ZERO,
        Some(Ok(after)) if !after.is_negative() => after,
        Some(_) => {
            let text = "after must be a duration such as 5s";
            return refusal(StatusCode::BAD_REQUEST, text);
        }
    };
    let arrives = Timestamp::now().saturating_add(after).unwrap_or(Timestamp::MAX);
    match desk.policies.put_after(key.clone(), text, arrives) {
        Ok(()) => ok(&json!({"policy": "set", "access_key": key})),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &format!("no IAM policy document: {error}")),
    }
}

async fn launches(State(desk): At) -> Answer {
    ok(&desk.shared.read(|world, _| {
        let launches = &world.launches;
        json!({"launched": launches.all_launched(), "refused": launches.all_refused(),
               "shortages": launches.shortages})
    }))
}

async fn put_shortages(State(desk): At, body: Bytes) -> Answer {
    let shortages = match parse::<Vec<Shortage>>(&body) {
        Ok(shortages) => shortages,
        Err(refusal) => return *refusal,
    };
    desk.shared.with(|world, _| world.launches.shortages.clone_from(&shortages));
    ok(&json!({"shortages": shortages}))
}

fn machine_json(world: &World, machine: &Machine) -> Value {
    let units: BTreeMap<&String, &str> =
        machine.units.iter().map(|(name, unit)| (name, unit.state.word())).collect();
    // An environment may hold secrets: a bootstrap is shown by its name alone.
    let bootstraps: Vec<Value> = machine
        .bootstraps
        .iter()
        .map(|run| json!({"name": run.name, "began": run.began, "exit": run.exit}))
        .collect();
    let launch = machine.launch.as_ref().map(|launch| {
        json!({"template": launch.template_id, "version": launch.template_version,
               "client_token": launch.client_token, "subnet": launch.subnet, "spot": launch.spot})
    });
    json!({
        "id": machine.id,
        "launch": launch,
        "bootstraps": bootstraps,
        "instance_type": machine.instance_type,
        "public_ip": machine.view.public_ip,
        "name": machine.tags.get("Name"),
        "state": machine.state().name(),
        "starts": machine.starts,
        "stops": machine.stops,
        "launched": machine.view.launched,
        "reason": machine.view.transition_reason,
        "private_ip": machine.private_ip,
        "agent": if world.agent_online(machine) { "online" } else { "offline" },
        "units": units,
        "behaviour": machine.behaviour,
    })
}

async fn machines(State(desk): At) -> Answer {
    ok(&desk.shared.with(|world, _| {
        let all: Vec<Value> = world.machines.iter().map(|it| machine_json(world, it)).collect();
        json!({"machines": all})
    }))
}

async fn machine(State(desk): At, Path(id): Path<String>) -> Answer {
    show_machine(&desk, &id)
}

fn show_machine(desk: &Desk, id: &str) -> Answer {
    let shown = desk
        .shared
        .with(|world, _| world.machines.get(id).map(|machine| machine_json(world, machine)));
    shown.map_or_else(|| no_machine(id), |shown| ok(&shown))
}

fn no_machine(id: &str) -> Answer {
    refusal(StatusCode::NOT_FOUND, &format!("there is no machine {id}"))
}

async fn put_machine(State(desk): At, Path(id): Path<String>, body: Bytes) -> Answer {
    let id = id.as_str();
    let behaviour = match parse::<Behaviour>(&body) {
        Ok(behaviour) => behaviour,
        Err(refusal) => return *refusal,
    };
    let known = desk.shared.with(|world, _| {
        world.machines.get_mut(id).map(|machine| machine.behaviour = behaviour).is_some()
    });
    if known { show_machine(&desk, id) } else { no_machine(id) }
}

async fn change_machine(State(desk): At, Path((id, verb)): Path<(String, String)>) -> Answer {
    let (id, verb) = (id.as_str(), verb.as_str());
    let ids = [id.to_owned()];
    if verb == "interrupt" {
        return if desk.shared.with(|world, now| world.interrupt_spot(now, id)) {
            show_machine(&desk, id)
        } else {
            refusal(StatusCode::CONFLICT, &format!("{id} is no spot machine that is on"))
        };
    }
    let change = match verb {
        "start" => World::start_machines,
        "stop" => World::stop_machines,
        "terminate" => World::terminate_machines,
        _ => {
            let text = format!("no verb {verb}: expected start, stop, terminate or interrupt");
            return refusal(StatusCode::NOT_FOUND, &text);
        }
    };
    match desk.shared.with(|world, now| change(world, now, &ids, false)) {
        Ok(_) => show_machine(&desk, id),
        Err(error) => {
            let status = if error.code().contains("InvalidInstanceID") { 404 } else { 409 };
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::CONFLICT);
            answer(status, &json!({"error": error.to_string(), "code": error.code()}))
        }
    }
}

async fn change_unit(
    State(desk): At,
    Path((id, unit, verb)): Path<(String, String, String)>,
) -> Answer {
    let (id, unit, verb) = (id.as_str(), unit.as_str(), verb.as_str());
    let change = match verb {
        "die" => World::kill_unit,
        "fail" => World::fail_unit,
        "repair" => World::repair_unit,
        _ => {
            let text = format!("no verb {verb}: expected die, fail or repair");
            return refusal(StatusCode::NOT_FOUND, &text);
        }
    };
    if desk.shared.with(|world, now| change(world, now, id, unit)) {
        return show_machine(&desk, id);
    }
    refusal(StatusCode::NOT_FOUND, &format!("there is no unit {unit} on a machine {id}"))
}

fn service_json(service: &Service, now: Timestamp) -> Value {
    let sight = service.seen_at(now);
    let tasks: BTreeMap<&str, &str> =
        service.tasks().map(|task| (task.id.as_str(), task.view.status.name())).collect();
    let rollout = sight.view.deployments.first().map(|it| it.rollout.name());
    json!({
        "cluster": service.cluster,
        "name": service.name,
        "desired": sight.view.desired,
        "running": sight.running(),
        "pending": sight.pending(),
        "rollout": rollout,
        "event": sight.events.first().map(|it| it.message.as_str()),
        "tasks": tasks,
        "behaviour": service.behaviour,
    })
}

async fn services(State(desk): At) -> Answer {
    let all: Vec<Value> = desk
        .shared
        .with(|world, now| world.services.iter().map(|it| service_json(it, now)).collect());
    ok(&json!({"services": all}))
}

async fn service(State(desk): At, Path((cluster, name)): Path<(String, String)>) -> Answer {
    show_service(&desk, &cluster, &name)
}

fn show_service(desk: &Desk, cluster: &str, name: &str) -> Answer {
    let found = desk.shared.with(|world, now| {
        world.services.get(cluster, name).map(|service| service_json(service, now))
    });
    found.map_or_else(|| no_service(cluster, name), |json| ok(&json))
}

fn no_service(cluster: &str, name: &str) -> Answer {
    let text = format!("there is no service {name} in a cluster {cluster}");
    refusal(StatusCode::NOT_FOUND, &text)
}

async fn put_service(
    State(desk): At,
    Path((cluster, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let (cluster, name) = (cluster.as_str(), name.as_str());
    let behaviour = match parse::<ServiceBehaviour>(&body) {
        Ok(behaviour) => behaviour,
        Err(refusal) => return *refusal,
    };
    desk.shared.with(|world, now| world.set_behaviour(now, cluster, name, behaviour));
    show_service(&desk, cluster, name)
}

async fn change_service(
    State(desk): At,
    Path((cluster, name, verb)): Path<(String, String, String)>,
) -> Answer {
    let (cluster, name, verb) = (cluster.as_str(), name.as_str(), verb.as_str());
    if verb != "die" {
        let text = format!("no verb {verb}: expected die");
        return refusal(StatusCode::NOT_FOUND, &text);
    }
    desk.shared.with(|world, now| world.kill_tasks(now, cluster, name));
    show_service(&desk, cluster, name)
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_loopback_names_are_loopback() {
        for name in ["127.0.0.1:4566", "localhost", "localhost:1", "[::1]:4566", "[::1]"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "10.0.0.1"]
        {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
