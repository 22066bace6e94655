//! An answer that never comes: a body that fails at its first byte.
//!
//! *Theory.* The server writes head and first part of the body together, so when the body fails there is
//! nothing to write yet, and the connection is closed with the whole answer unsaid.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::Frame;

/// The body that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut;

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(Some(Err(Error::new(ErrorKind::ConnectionReset, "cut off (injected)"))))
    }
}
