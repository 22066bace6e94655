//! A backend as a test wants it: one socket, and whatever it says to whoever asks.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What it answers.
pub(crate) enum Says {
    /// A status, a content type and a body.
    Body(u16, &'static str, String),
    /// To ask elsewhere.
    Elsewhere(String),
    /// Nothing, as long as the asker stays.
    Nothing,
    /// More and more.
    Endless,
}

impl Says {
    pub(crate) fn json(body: &serde_json::Value) -> Self {
        Self::Body(200, "application/json", body.to_string())
    }
}

/// It serves until the process of the test ends.
pub(crate) struct Backend {
    pub(crate) url: String,
    asked: Arc<AtomicU32>,
    given_up: Arc<AtomicU32>,
}

impl Backend {
    /// `says` gets the number of the request, from 1, and its path.
    pub(crate) fn start(says: impl Fn(u32, &str) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let asked = Arc::new(AtomicU32::new(0));
        let given_up = Arc::new(AtomicU32::new(0));
        let (count, says) = (Arc::clone(&asked), Arc::new(says));
        let ended = Arc::clone(&given_up);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (count, says) = (Arc::clone(&count), Arc::clone(&says));
                let ended = Arc::clone(&ended);
                // Whoever hangs holds up nobody else.
                std::thread::spawn(move || serve(stream, &count, &ended, says.as_ref()));
            }
        });
        Self { url, asked, given_up }
    }

    /// How many requests that were left without an answer (`Says::Nothing`) are over.
    pub(crate) fn given_up(&self) -> u32 {
        self.given_up.load(Ordering::SeqCst)
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(
    mut stream: TcpStream,
    count: &AtomicU32,
    given_up: &AtomicU32,
    says: &(impl Fn(u32, &str) -> Says + ?Sized),
) {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or("/");
    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
    let answer = match says(number, path) {
        Says::Body(status, kind, body) => format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        Says::Elsewhere(url) => format!(
            "HTTP/1.1 302 Found\r\nLocation: {url}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ),
        Says::Nothing => {
            let _ = stream.read(&mut part);
            given_up.fetch_add(1, Ordering::SeqCst);
            return;
        }
        Says::Endless => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"last_activity\": 1";
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(&[b'0'; 65_536]).is_ok() {}
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes());
}

/// Now, in epoch seconds.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_secs_f64()
}
