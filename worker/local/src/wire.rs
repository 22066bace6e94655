//! What the gateway's wire lacks, done around it: packed bodies, error codes of older clients, and times
//! in CBOR.
//!
//! - A body may be packed with gzip: the SDKs do so with a PutMetricData of more than 10 KiB.
//! - SQS and CloudWatch spoke the query protocol before; their clients read the older code of an error
//!   from a header of its own.
//! - CloudWatch's clients speak CBOR (`rpc-v2-cbor`), where a time has a tag. The gateway reads it and
//!   does not write it, and without it the SDKs refuse the answer.
//!
//! Not here: any knowledge of a service beyond the names of its fields that are times.

use std::io::Read as _;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ciborium::Value;

/// The fields of answers that are times, or lists of times.
const TIMES: [&str; 1] = ["Timestamps"];
/// Where CloudWatch's operations are in CBOR.
const CLOUDWATCH_PATH: &str = "/service/GraniteServiceVersion20100801/";
/// CBOR's tag of seconds since the epoch.
const EPOCH: u64 = 1;
/// An answer is never longer: 500 series of a few hundred points.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a request is spoken, as far as its answer must be finished accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// SQS in JSON.
    Sqs,
    /// CloudWatch in JSON.
    CloudWatch,
    /// CloudWatch in CBOR.
    CloudWatchCbor,
    /// All else.
    Plain,
}

impl Dialect {
    pub(crate) fn of(headers: &HeaderMap, path: &str) -> Self {
        let starts = |name: &str, start: &[u8]| {
            headers.get(name).is_some_and(|value| value.as_bytes().starts_with(start))
        };
        if starts("smithy-protocol", b"rpc-v2-cbor") && path.starts_with(CLOUDWATCH_PATH) {
            Self::CloudWatchCbor
        } else if starts("x-amz-target", b"AmazonSQS.") {
            Self::Sqs
        } else if starts("x-amz-target", b"GraniteService") {
            Self::CloudWatch
        } else {
            Self::Plain
        }
    }

    /// Makes of the gateway's answer what clients of this dialect expect.
    pub(crate) async fn finish(self, mut response: Response<Body>) -> Response<Body> {
        match self {
            Self::Plain => {}
            Self::CloudWatchCbor => return finish_cbor(response).await,
            Self::Sqs | Self::CloudWatch if response.status().is_success() => {}
            Self::Sqs | Self::CloudWatch => {
                let code = response.headers().get("x-amzn-errortype");
                let code = code.and_then(|it| it.to_str().ok()).map(str::to_owned);
                let code = code.map(|code| match self {
                    Self::Sqs => legacy_sqs_code(&code),
                    _ => code,
                });
                set_query_error(&mut response, code);
            }
        }
        response
    }
}

fn set_query_error(response: &mut Response<Body>, code: Option<String>) {
    let side = if response.status().is_server_error() { "Receiver" } else { "Sender" };
    let value = code.and_then(|code| HeaderValue::from_str(&format!("{code};{side}")).ok());
    if let Some(value) = value {
        response.headers_mut().insert("x-amzn-query-error", value);
    }
}

/// What SQS called its errors before it spoke JSON.
fn legacy_sqs_code(code: &str) -> String {
    match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
        "QueueNameExists" => "QueueAlreadyExists".to_owned(),
        "AccessDeniedException" => "AccessDenied".to_owned(),
        "MessageNotInflight"
        | "EmptyBatchRequest"
        | "TooManyEntriesInBatchRequest"
        | "BatchEntryIdsNotDistinct"
        | "BatchRequestTooLong"
        | "InvalidBatchEntryId"
        | "PurgeQueueInProgress"
        | "QueueDeletedRecently"
        | "UnsupportedOperation" => format!("AWS.SimpleQueueService.{code}"),
        other => other.to_owned(),
    }
}

async fn finish_cbor(response: Response<Body>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.unwrap_or_default();
    let read = ciborium::from_reader::<Value, _>(&bytes[..]);
    let Ok(mut value) = read else { return Response::from_parts(parts, Body::from(bytes)) };
    let code = field(&value, "__type").and_then(Value::as_text).map(str::to_owned);
    tag_times(&mut value);
    let mut tagged = Vec::new();
    let body = match ciborium::into_writer(&value, &mut tagged) {
        Ok(()) => Body::from(tagged),
        Err(_) => Body::from(bytes),
    };
    let mut response = Response::from_parts(parts, body);
    if !response.status().is_success() {
        set_query_error(&mut response, code);
    }
    response
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = value.as_map()?;
    fields.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

/// Gives every number under a name of [`TIMES`] its tag.
fn tag_times(value: &mut Value) {
    match value {
        Value::Map(fields) => {
            for (key, value) in fields {
                if key.as_text().is_some_and(|key| TIMES.contains(&key)) {
                    tag_numbers(value);
                } else {
                    tag_times(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tag_times),
        _ => {}
    }
}

fn tag_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tag_numbers),
        Value::Integer(_) | Value::Float(_) => {
            let number = std::mem::replace(value, Value::Null);
            *value = Value::Tag(EPOCH, Box::new(number));
        }
        _ => {}
    }
}

/// The body as it was before it was packed.
pub(crate) fn unpack(
    mut headers: HeaderMap,
    body: Bytes,
    bytes_max: usize,
) -> Result<(HeaderMap, Bytes), Box<Response<Body>>> {
    let packed = headers.get(header::CONTENT_ENCODING).is_some_and(|it| it == "gzip");
    if !packed {
        return Ok((headers, body));
    }
    let refuse = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        Box::new(response)
    };
    let mut plain = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = flate2::read::GzDecoder::new(&body[..]).take(limit);
    if reader.read_to_end(&mut plain).is_err() {
        return Err(refuse(StatusCode::BAD_REQUEST, "the body is no gzip"));
    }
    if plain.len() > bytes_max {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the unpacked body is too large"));
    }
    headers.remove(header::CONTENT_ENCODING);
    Ok((headers, Bytes::from(plain)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        Bytes::from(encoder.finish().unwrap())
    }

    #[track_caller]
    fn check(encoding: Option<&str>, body: Bytes, expected: Result<&[u8], u16>) {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(encoding).unwrap());
        }
        let got = unpack(headers, body, 100);
        let got = got.as_ref().map(|(_, body)| &body[..]).map_err(|it| it.status().as_u16());
        assert_eq!(got, expected);
    }

    #[test]
    fn a_packed_body_is_unpacked_within_its_bound() {
        check(None, Bytes::from_static(b"plain"), Ok(b"plain"));
        check(Some("gzip"), packed(b"text"), Ok(b"text"));
        check(Some("gzip"), packed(&[0; 101]), Err(413));
        check(Some("gzip"), Bytes::from_static(b"text"), Err(400));
    }

    #[test]
    fn times_are_tagged_and_other_numbers_are_not() {
        let map = |name: &str, value: Value| Value::Map(vec![(Value::Text(name.into()), value)]);
        let number = || Value::Float(1.5);
        let mut value = map("Timestamps", Value::Array(vec![number()]));
        tag_times(&mut value);
        let tagged = Value::Tag(EPOCH, Box::new(number()));
        assert_eq!(value, map("Timestamps", Value::Array(vec![tagged])));
        let mut value = map("Values", Value::Array(vec![number()]));
        tag_times(&mut value);
        assert_eq!(value, map("Values", Value::Array(vec![number()])));
    }
}
