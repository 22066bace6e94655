//! Backends that answer, and backends that do anything else.

use std::sync::Mutex;

use jiff::SignedDuration;
use lamplighter_lifecycle::{HealthUrl, HttpReads, IdleOverride, Resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    fn new_id(&self) -> String {
        "1".to_owned()
    }
    fn jitter(&self) -> f64 {
        0.0
    }
    fn skew(&self) -> Option<SignedDuration> {
        None
    }
}

/// Answers with this, and then with `drip` again and again while the client listens.
async fn serve(
    answer: Vec<u8>,
    drip: &'static [u8],
    pause: Duration,
) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let read = stream.read(&mut request).await.unwrap_or(0);
            *heard.lock().unwrap() = String::from_utf8_lossy(&request[..read]).into_owned();
            let mut open = stream.write_all(&answer).await.is_ok();
            while open && !drip.is_empty() {
                tokio::time::sleep(pause).await;
                open = stream.write_all(drip).await.is_ok();
            }
        }
    });
    (format!("http://{address}/activity?token=secret"), asked)
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

async fn probe(url: &str, pointer: &str) -> Reading {
    ask(&probe_client().unwrap(), &WallClock, url, pointer).await
}

#[track_caller]
fn is_unknown(reading: &Reading, words: &str, silent: bool) {
    let Reading::Unknown { detail, unreachable } = reading else { panic!("{reading:?}") };
    assert!(detail.contains(words), "{detail:?} has no {words:?}");
    assert_eq!(*unreachable, silent, "{detail}");
    assert!(!detail.contains("secret") && detail.chars().count() < 160, "{detail}");
}

#[track_caller]
fn check(json: &str, pointer: &str, expected: Result<f64, &str>) {
    let found = number(&serde_json::from_str(json).unwrap(), pointer);
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert!((found - expected).abs() < f64::EPSILON, "{json}"),
        (Err(detail), Err(words)) => assert!(detail.contains(words), "{json}: {detail}"),
        _ => panic!("{json}: {found:?}"),
    }
}

#[test]
fn a_number_is_read_at_its_pointer_and_nothing_else_is_one() {
    check(r#"{"last_activity": 1764000000.25}"#, "/last_activity", Ok(1_764_000_000.25));
    check(r#"{"a": [{"b/c": "12"}]}"#, "/a/0/b~1c", Ok(12.0));
    check("7", "", Ok(7.0));
    check(r#"{"a": null}"#, "/a", Err("null"));
    check(r#"{"b": 1}"#, "/a", Err("nothing"));
    check(r#"{"a": true}"#, "/a", Err("truth"));
    check(r#"{"a": {}}"#, "/a", Err("object"));
    check(r#"{"a": "soon"}"#, "/a", Err("soon"));
    check(r#"{"a": "NaN"}"#, "/a", Err("NaN"));
    check(r#"{"a": "inf"}"#, "/a", Err("inf"));
    let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(5_000));
    let detail = number(&serde_json::from_str(&long).unwrap(), "/a").unwrap_err();
    assert!(detail.chars().count() < 110, "{detail}");
}

#[tokio::test]
async fn a_probe_says_that_it_is_one_and_tells_the_backends_clock() {
    let date = "date: Fri, 20 Nov 2026 10:00:00 GMT\r\nconnection: close\r\n";
    let (url, asked) = serve(http("200 OK", date, r#"{"n": 5}"#), b"", Duration::ZERO).await;
    let before = Timestamp::now();
    let reading = probe(&url, "/n").await;
    let after = Timestamp::now();
    let Reading::Number { value, asked_at, answered_at, ahead_millis } = reading else {
        panic!("{reading:?}")
    };
    assert!(value == 5.0 && before <= asked_at && asked_at <= answered_at && answered_at <= after);
    let date: Timestamp = "2026-11-20T10:00:00.5Z".parse().unwrap();
    let ahead = ahead_millis.unwrap();
    assert!(date.as_millisecond() - after.as_millisecond() <= ahead);
    assert!(ahead <= date.as_millisecond() - before.as_millisecond());
    let asked = asked.lock().unwrap().to_lowercase();
    assert!(asked.contains("user-agent: lamplighter-probe\r\n"), "{asked}");
    assert!(asked.contains("x-lamplighter-probe: 1\r\n"), "{asked}");
    let (url, _) = serve(http("200 OK", "", r#"{"n": 5}"#), b"", Duration::ZERO).await;
    assert!(matches!(probe(&url, "/n").await, Reading::Number { ahead_millis: None, .. }));
}

#[tokio::test]
async fn whatever_else_a_backend_answers_is_unknown_and_not_unreachable() {
    for (answer, words) in [
        (http("200 OK", "content-type: text/html\r\n", "<html>secret"), "no JSON (text/html)"),
        (http("200 OK", "", ""), "no JSON"),
        (http("500 Oops", "", "{\"n\": 1}"), "HTTP 500"),
        (http("401 No", "", ""), "HTTP 401"),
        (http("502 Bad Gateway", "", ""), "HTTP 502"),
        (http("302 Found", "location: /activity\r\n", ""), "redirects (HTTP 302)"),
        (http("304 Same", "", ""), "HTTP 304"),
        (http("200 OK", "", "{\"m\": 1}"), "nothing at /n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_vec(), "longer than 64 KiB"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_vec(), "broke off"),
    ] {
        let (url, _) = serve(answer, b"", Duration::ZERO).await;
        is_unknown(&probe(&url, "/n").await, words, false);
    }
}

#[tokio::test]
async fn a_page_without_end_is_left_after_its_beginning() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunk: &[u8] =
        Box::leak([b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat().into());
    let (url, _) = serve(head, chunk, Duration::ZERO).await;
    is_unknown(&probe(&url, "/n").await, "longer than 64 KiB", false);
}

#[tokio::test]
async fn an_answer_that_drips_is_left_after_five_seconds() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let (url, _) = serve(head, b"1\r\n \r\n", Duration::from_millis(100)).await;
    let (silent, _) = serve(Vec::new(), b" ", Duration::from_secs(60)).await;
    let before = Instant::now();
    let (drips, says_nothing) = tokio::join!(probe(&url, "/n"), probe(&silent, "/n"));
    is_unknown(&drips, "no end within 5 s", false);
    is_unknown(&says_nothing, "no answer within 5 s", true);
    assert!(before.elapsed() < Duration::from_secs(9));
}

fn probes(places: usize) -> Probes {
    // Without a region and credentials no call could leave it; no test here makes one.
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(aws_sdk_cloudwatch::config::BehaviorVersion::latest());
    let client = aws_sdk_cloudwatch::Client::from_conf(config.build());
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(aws_sdk_secretsmanager::config::BehaviorVersion::latest());
    let secrets = Secrets::new(aws_sdk_secretsmanager::Client::from_conf(config.build()));
    Probes {
        http: probe_client().unwrap(),
        places: Semaphore::new(places),
        metrics: Batcher::new(Metrics { client }),
        addresses: Addresses::new(Arc::new(secrets)),
        clock: Arc::new(WallClock),
    }
}

fn plan(url: &str) -> ProbePlan {
    let http = HttpProbe {
        url: HealthUrl::parse(url).unwrap(),
        pointer: "/n".to_owned(),
        reads: HttpReads::Count,
        ignore_own: false,
    };
    ProbePlan {
        resource: Resource::parse("i-0abc123def456").unwrap(),
        private_ip: None,
        public_ip: None,
        probes: vec![Probe::Http(http)],
        http_order: vec![0],
        over: IdleOverride::default(),
    }
}

#[tokio::test]
async fn who_waits_for_a_place_has_its_own_time_from_when_it_gets_it() {
    let (silent, _) = serve(Vec::new(), b" ", Duration::from_secs(60)).await;
    let (quick, _) = serve(http("200 OK", "", r#"{"n": 3}"#), b"", Duration::ZERO).await;
    let probes = probes(1);
    let before = Timestamp::now();
    let (silent, quick) = (plan(&silent), plan(&quick));
    let (slow, waited) = tokio::join!(probes.ask(&silent), probes.ask(&quick));
    is_unknown(slow.readings[0].as_ref().unwrap(), "no answer within 5 s", true);
    let Some(Reading::Number { value, asked_at, .. }) = waited.readings[0] else {
        panic!("{waited:?}")
    };
    assert_eq!(value, 3.0);
    // What was read after the wait is not taken for older: the round begins when its place is free.
    assert!(waited.at >= before + SignedDuration::from_secs(4), "{before} {}", waited.at);
    assert!(asked_at >= waited.at && slow.at < waited.at);
}

#[tokio::test]
async fn only_silence_is_unreachable() {
    is_unknown(&probe("http://127.0.0.1:1/?token=secret", "/n").await, "cannot connect", true);
    let (closes, _) = serve(Vec::new(), b"", Duration::ZERO).await;
    is_unknown(&probe(&closes, "/n").await, "no answer", true);
    let (babble, _) = serve(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), b"", Duration::ZERO).await;
    is_unknown(&probe(&babble, "/n").await, "no answer", true);
}

#[test]
fn the_backends_clock_is_compared_with_the_middle() {
    let at = |ms| Timestamp::from_millisecond(ms).unwrap();
    assert_eq!(ahead_millis(at(10_000), at(10_400), at(10_600)), 0);
    assert_eq!(ahead_millis(at(70_000), at(10_000), at(11_000)), 60_000);
    assert_eq!(ahead_millis(at(5_000), at(10_000), at(10_000)), -4_500);
}
