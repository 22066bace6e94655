//! Every address of the door, and what stands before all of them.
//!
//! *Theory.* An address is one variant of [`Route`]: it has its handler here, and (in `openapi`) its documentation. So nothing is
//! served that is not documented, nor documented and not served. Paths are matched whole and as they were sent: nothing
//! is decoded, joined or cleaned first, since a path that merely *contained* `/start` once started a machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY, RETRY_AFTER, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tower_http::cors::CorsLayer;

use crate::Door;
use crate::assets::index;
use crate::problem::Problem;
use crate::route::Route;
use crate::server::{Crowded, Peer};
use crate::settings::{Auth, Host, Seed};
use crate::{api, assets, compat, letters, live, metrics, openapi, templates, waiting_room};

/// Browsers may remember a preflight for so long.
const PREFLIGHT_SECONDS: u64 = 600;
/// What browsers say of where a request comes from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn handler(route: Route) -> MethodRouter<Arc<Door>> {
    match route {
        Route::PostCommand => post(api::post_command),
        Route::GetCommand => get(api::get_command),
        Route::Targets => get(api::targets),
        Route::Target => get(api::target),
        Route::Why => get(api::why),
        Route::History => get(api::history),
        Route::Templates => get(templates::templates),
        Route::Events => get(live::events),
        Route::Me => get(api::me),
        Route::Letters => get(letters::list),
        Route::Replay => post(letters::replay),
        Route::Links => post(waiting_room::make_link),
        Route::Health => get(api::healthz),
        Route::Ready => get(api::readyz),
        Route::Metrics => get(metrics::metrics),
    }
}

/// All of it.
pub(crate) fn router(door: &Arc<Door>) -> Router {
    let mut router = Router::new();
    for route in Route::ALL {
        let wrong = if route.posts() { "POST" } else { "GET, HEAD" };
        let handler = handler(route).fallback(move || async move { Problem::not_allowed(wrong) });
        router = router.route(route.path(), handler);
    }
    // The seeds' root is the page's, where nothing stands before it.
    let seeds = if door.http.prefix.is_empty() { compat::root(&door.http) } else { None };
    let root = match (seeds, door.http.compat.contains(&Seed::Walrus)) {
        (Some(root), false) => root.get(index),
        (Some(root), true) => root,
        (None, _) => get(index),
    };
    router = router
        .route("/", root)
        .route("/docs", get(|| async { assets::html(StatusCode::OK, assets::DOCS.to_owned()) }))
        .route("/openapi.json", get(openapi::document))
        .route("/assets/{name}", get(assets::asset))
        .route("/wait/{target}", get(waiting_room::page).post(waiting_room::wake))
        .route("/wait/{target}/state", get(waiting_room::state))
        .merge(compat::router(&door.http))
        .fallback(|| async { Problem::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            // What is allowed the library knows, and says.
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let detail = "this address does not take this method; see Allow";
            Problem::new(status, "method-not-allowed", detail)
        });
    let router = router.layer(from_fn_with_state(Arc::clone(door), guard));
    let router = match cors(&door.http.origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(from_fn_with_state(Arc::clone(door), finish)).with_state(Arc::clone(door))
}

/// Pages of these origins may use the API.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let header = HeaderName::from_static;
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            AUTHORIZATION,
            CONTENT_TYPE,
            header("idempotency-key"),
            header("prefer"),
            header("x-current-user-id"),
        ])
        .expose_headers([axum::http::header::LOCATION, RETRY_AFTER, header("preference-applied")])
        .max_age(Duration::from_secs(PREFLIGHT_SECONDS));
    Some(layer)
}

/// What is refused before anybody is asked who it is.
async fn guard(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    if request.extensions().get::<Crowded>().is_some()
        && request.uri().path() != Route::Health.path()
    {
        let detail = "the limit of open connections is reached; try again later";
        return Problem::unavailable(detail).into_response();
    }
    let peer = request.extensions().get::<Peer>().copied();
    let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    if let (Some(Peer(peer)), false) = (peer, is_probe) {
        let address = door.limits.address(peer, request.headers());
        if let Err(problem) = door.limits.request(address) {
            return problem.into_response();
        }
    }
    if let Err(problem) = one_host(&request) {
        return problem.into_response();
    }
    // A load balancer's health check names the task's address as its Host.
    if door.access.auth() == Auth::None
        && !is_probe
        && let Err(problem) = ours(&door, &request)
    {
        return problem.into_response();
    }
    next.run(request).await
}

/// Without tokens the browser of whoever may reach the door is what a stranger's page would use: by a request of its
/// own, or under a name of its own that leads here.
fn ours(door: &Door, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // The request line's own host counts before the header's (RFC 9112 §3.2.2).
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => text(HOST).unwrap_or_default(),
    };
    let named = Host::of(host);
    let is_ours = |host: &Host| {
        host.is_loopback() || door.http.hosts.iter().any(|listed| host.is_listed_as(listed))
    };
    if !named.as_ref().is_some_and(is_ours) {
        let detail = "the Host is not one of this door's; expected localhost or 127.0.0.1 on its own machine, or a \
                      host that [http] hosts lists";
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", detail));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let origin = text(ORIGIN);
    let listed = origin.is_some_and(|origin| door.http.origins.iter().any(|known| known == origin));
    let its = origin.and_then(|origin| origin.split_once("://"));
    // A form of a page of ours that sends no referrer has no origin either, and its browser says where it comes from.
    let own_form = origin == Some("null") && text(FETCH_SITE) == Some("same-origin");
    // A proxy may write another Host, and the browser's page is of a listed one all the same.
    let same = |(_, its): (&str, &str)| {
        let its = Host::of(its);
        its == named || its.is_some_and(|its| door.http.hosts.contains(&its))
    };
    let same = own_form || its.is_some_and(same);
    let strange = (origin.is_some() && !same && !listed)
        || (text(FETCH_SITE) == Some("cross-site") && !listed);
    if changes && strange {
        return Err(Problem::forbidden(
            "a page of another origin asks; [http] origins lists those that may",
        ));
    }
    Ok(())
}

/// With two of them somebody else may have read the other one.
fn one_host(request: &Request) -> Result<(), Problem> {
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Problem::invalid("the header Host comes twice; expected it once"));
    }
    Ok(())
}

/// What every answer has, and what is noted of it. The query is noted nowhere: it may hold a code.
async fn finish(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "none".to_owned());
    let mut response = next.run(request).await;
    let status = response.status();
    let plain = response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|media_type| media_type.as_bytes().starts_with(b"text/plain"));
    if plain && (status.is_client_error() || status.is_server_error()) && method != Method::HEAD {
        // Of the library's own: a path that is no UTF-8, a query that is none.
        let kept = response.headers().clone();
        response =
            Problem::new(status, "invalid", "the request is not as expected").into_response();
        for (name, value) in kept.iter().filter(|(name, _)| *name == axum::http::header::ALLOW) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(axum::http::header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    if route == "/" {
        headers.append(VARY, HeaderValue::from_static("accept"));
    }
    let took = began.elapsed();
    door.metrics.answered(&route, status.as_u16(), took);
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match status.is_server_error() {
        true => tracing::warn!(%method, route, status = status.as_u16(), millis, "answered"),
        false => tracing::debug!(%method, route, status = status.as_u16(), millis, "answered"),
    }
    response
}
