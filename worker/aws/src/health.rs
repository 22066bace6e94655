//! Health addresses: does what runs on a machine answer 2xx?
//!
//! *Theory.* The status is the whole answer. Redirects are not followed (a login page is not health), the
//! body is not read, and no proxy stands between a worker and a private address.

use std::error::Error;
use std::time::Duration;

use lamplighter_lifecycle::HealthReading;

/// As long as seed 002's client waited.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client with TLS")]
pub struct HealthError(#[source] reqwest::Error);

/// Asks health addresses.
#[derive(Debug, Clone)]
pub(crate) struct HealthClient(reqwest::Client);

impl HealthClient {
    pub(crate) fn new() -> Result<Self, HealthError> {
        client("lamplighter", TIMEOUT, |builder| builder).map(Self)
    }

    pub(crate) async fn ask(&self, url: &str) -> HealthReading {
        match self.0.get(url).send().await {
            Ok(answer) if answer.status().is_success() => HealthReading::Healthy,
            Ok(answer) => {
                HealthReading::Unhealthy { detail: format!("HTTP {}", answer.status().as_u16()) }
            }
            Err(error) => HealthReading::Unhealthy { detail: silence(&error, TIMEOUT) },
        }
    }
}

/// A client for addresses of backends: it follows no redirect and takes no proxy.
pub(crate) fn client(
    agent: &str,
    timeout: Duration,
    with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, HealthError> {
    // The process keeps the first provider; a second installation only says that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(agent);
    with(builder).build().map_err(HealthError)
}

/// Why there was no answer, without the address: it may carry a token.
pub(crate) fn silence(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", timeout.as_secs());
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        format!("cannot connect: {cause}")
    } else {
        format!("no answer: {cause}")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn serve(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}/health")
    }

    #[tokio::test]
    async fn only_a_2xx_answer_is_healthy() {
        let client = HealthClient::new().unwrap();
        let url = serve("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.ask(&url).await, HealthReading::Healthy);
        let url =
            serve("HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(
            client.ask(&url).await,
            HealthReading::Unhealthy { detail: "HTTP 302".to_owned() }
        );
        let url = serve("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(
            client.ask(&url).await,
            HealthReading::Unhealthy { detail: "HTTP 503".to_owned() }
        );
        let HealthReading::Unhealthy { detail } = client.ask("http://127.0.0.1:1/x?token=s").await
        else {
            panic!("nothing listens there")
        };
        assert!(detail.starts_with("cannot connect") && !detail.contains("token"), "{detail}");
    }
}
