//! The listener: connections to requests, with a bound on everything that a stranger can make long.
//!
//! *Theory.* axum's own loop sets no time limit on headers, so this one speaks to hyper itself: a connection that
//! dribbles its headers, or rests between requests, is closed; one that is too many is crowded (`limits`). TLS is the load
//! balancer's.
//!
//! *End.* With `closing` everything that waits answers with what it knows, streams end, connections finish the request
//! they are at; what is left after a while is dropped.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Door;
use crate::limits::Connection;
use crate::patient::Patient;

/// From the first byte of a request, or from the end of the last one, to the end of its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// The same behind a balancer, which minds slow headers itself and uses its connections again: it must be the one that
/// closes them (the stack's after 900 s), or a request meets a closed one and becomes a 502.
const HEADERS_WITHIN_BEHIND_PROXIES: Duration = Duration::from_secs(910);
/// The same for a crowded connection, which has one request: others need its place.
const CROWDED_HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Room for all headers together: a token, an origin, a few traces.
const HEADERS_BYTES_MAX: usize = 16 << 10;
/// How many there may be.
const HEADERS_MAX: usize = 64;
/// How long an answer may wait for whoever asked to read on.
const READ_ON_WITHIN: Duration = Duration::from_secs(30);
/// Requests that are at work have so long at the end: answers are at hand then.
const DRAIN_FOR: Duration = Duration::from_secs(10);
/// After an error of `accept` (no file descriptors) the next would come at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Marks the request of a crowded connection: only `/healthz` is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowded;

/// Serves until `shutdown` completes, then finishes.
pub(crate) async fn serve(
    door: Arc<Door>,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let (closing, closed) = watch::channel(false);
    let headers_within = match door.http.proxies {
        0 => HEADERS_WITHIN,
        _ => HEADERS_WITHIN_BEHIND_PROXIES,
    };
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Dropping the stream closes it: who comes again later may find room.
                    let Some(counted) = door.limits.connection(peer) else { continue };
                    let door = Arc::clone(&door);
                    connections.spawn(connection(door, stream, peer, router.clone(), closed.clone(), headers_within, counted));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    door.close();
    closing.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_FOR, drained).await.is_err() {
        tracing::warn!(left = connections.len(), "connections were dropped at the end");
    }
}

async fn connection(
    door: Arc<Door>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut closed: watch::Receiver<bool>,
    headers_within: Duration,
    counted: Connection,
) {
    // An answer is small and whole; it should not wait for more.
    let _ = stream.set_nodelay(true);
    let is_crowded = counted.is_crowded();
    let headers_within = if is_crowded { CROWDED_HEADERS_WITHIN } else { headers_within };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if is_crowded {
            request.extensions_mut().insert(Crowded);
        }
        let answer = TowerToHyperService::new(router.clone()).call(request.map(Body::new));
        let door = Arc::clone(&door);
        async move {
            let mut answer = answer.await?;
            if door.limits.is_nearly_full() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .keep_alive(!is_crowded)
        .header_read_timeout(headers_within)
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let mut serving =
        pin!(builder.serve_connection(TokioIo::new(Patient::new(stream, READ_ON_WITHIN)), service));
    // What `wait_for` gives back is a guard, which must not live across an await.
    let closing = async { drop(closed.wait_for(|closed| *closed).await) };
    let early = tokio::select! {
        biased;
        result = serving.as_mut() => Some(result),
        () = closing => None,
    };
    let result = match early {
        Some(result) => result,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(counted);
}
