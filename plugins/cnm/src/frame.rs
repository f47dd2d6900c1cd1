//! Framing: one JSON document per line, at most [`MAX_LINE`] bytes of it.

use std::io::{self, BufRead, BufReader, Read};

use crate::{Error, Result};

/// The longest line that is read, in bytes without its newline: 1 MiB.
pub const MAX_LINE: usize = 1 << 20;

/// The longest line between netd and those it trusts, in bytes: a sync tells a driver everything,
/// and a reply may list it. 256 MiB.
pub const MAX_TRUSTED_LINE: usize = 256 << 20;

/// The error of a line that is too long.
pub fn too_long() -> Error {
    Error::request(format_args!("the message is longer than {MAX_LINE} bytes"))
        .with("limit", MAX_LINE)
}

/// The error of bytes that are no text.
pub fn not_text() -> Error {
    Error::parse("the message is not UTF-8")
}

/// Reads lines; what is too long or no text is passed over to its newline and reported once.
#[derive(Debug)]
pub struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    limit: usize,
}

impl<R: Read> Lines<R> {
    /// Lines of `input`, each at most [`MAX_LINE`].
    pub fn new(input: R) -> Self {
        Self::with_limit(input, MAX_LINE)
    }

    /// Lines of `input`, each at most `limit` bytes.
    pub fn with_limit(input: R, limit: usize) -> Self {
        Self { input: BufReader::with_capacity(16 << 10, input), line: Vec::new(), limit }
    }

    /// The input itself, for its options.
    pub fn get_ref(&self) -> &R {
        self.input.get_ref()
    }

    /// The next line that is not empty, without its newline; `None` at the end.
    ///
    /// # Errors
    /// The outer one is the input's, the inner one the line's.
    pub fn next_line(&mut self) -> io::Result<Option<Result<&str>>> {
        loop {
            self.line.clear();
            let mut whole = false;
            let mut dropped = false;
            while !whole {
                let read = self.input.fill_buf()?;
                if read.is_empty() {
                    break;
                }
                let (part, used) = match read.iter().position(|b| *b == b'\n') {
                    Some(at) => (read.get(..at).unwrap_or_default(), at + 1),
                    None => (read, read.len()),
                };
                whole = used > part.len();
                if self.line.len() + part.len() > self.limit {
                    dropped = true;
                } else {
                    self.line.extend_from_slice(part);
                }
                self.input.consume(used);
            }
            if dropped {
                return Ok(Some(Err(too_long())));
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
            if !whole {
                return Ok(None);
            }
        }
        Ok(Some(std::str::from_utf8(&self.line).map_err(|_| not_text())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<std::result::Result<String, i32>> {
        let mut lines = Lines::new(input);
        let mut out = Vec::new();
        while let Some(line) = lines.next_line().expect("memory") {
            out.push(line.map(str::to_owned).map_err(|error| error.code));
        }
        out
    }

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        assert_eq!(all(b"a\n\n  \nb\r\nc"), [Ok("a".into()), Ok("b\r".into()), Ok("c".into())]);
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_too_long_is_one_error_and_the_next_is_read() {
        let mut input = vec![b'x'; MAX_LINE + 1];
        input.extend_from_slice(b"\nb\n");
        assert_eq!(all(&input), [Err(-32600), Ok("b".into())]);
        let longest = vec![b'x'; MAX_LINE];
        assert_eq!(all(&longest).len(), 1);
        assert!(all(&longest)[0].is_ok());
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        assert_eq!(all(b"\xff\xfe\n{}\n"), [Err(-32700), Ok("{}".into())]);
    }
}
