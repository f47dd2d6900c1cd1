//! A connection that remembers how the other side began to speak: who speaks no TLS says by that what it is.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How much is remembered, in bytes.
const MOST: usize = 32;

/// A connection and what came first on it.
#[derive(Debug)]
pub(super) struct Heard {
    stream: TcpStream,
    first: Vec<u8>,
}

impl Heard {
    pub(super) fn on(stream: TcpStream) -> Self {
        Self { stream, first: Vec::new() }
    }

    /// What is at the other end, when that speaks no TLS.
    pub(super) fn is_no_tls(&self) -> Option<String> {
        /// The types of TLS records (RFC 8446, section 5.1).
        const RECORDS: std::ops::RangeInclusive<u8> = 20..=23;
        let first = self.first.first()?;
        if RECORDS.contains(first) {
            return None;
        }
        Some(match self.first.as_slice() {
            [b'S', b'S', b'H', b'-', ..] => "it is an SSH server".to_owned(),
            [b'H', b'T', b'T', b'P', b'/', ..] => "it is a web server without TLS".to_owned(),
            other => {
                let text = String::from_utf8_lossy(other);
                let text = text.lines().next().unwrap_or_default().trim_end();
                format!("it speaks no TLS, and begins with {text:?}")
            }
        })
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let missing = MOST.saturating_sub(self.first.len());
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.first.extend(new.iter().take(missing));
        polled
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
