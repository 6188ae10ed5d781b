//! HTTP/1.1 as bytes: heads, and bodies by length, in chunks, or to the end of the connection.

use std::io::{Error, Result};

use bytes::{Bytes, BytesMut};

use super::line::Line;

/// A request's or an answer's head, as it came.
#[derive(Debug, Clone)]
pub struct Head {
    pub raw: Bytes,
}

impl Head {
    /// Reads one; `None` at the end of the connection.
    pub async fn read(line: &mut Line) -> Result<Option<Self>> {
        let mut searched: usize = 0;
        loop {
            let from = searched.saturating_sub(3);
            if let Some(at) = line.unused()[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                let raw = line.unused().split_to(from + at + 4).freeze();
                return Ok(Some(Self { raw }));
            }
            searched = line.unused().len();
            if !line.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The words of its first line.
    pub fn first_line(&self) -> [String; 3] {
        let text = String::from_utf8_lossy(&self.raw);
        let mut words = text.lines().next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
        std::array::from_fn(|_| words.next().unwrap_or_default())
    }

    /// An answer's status; 0 when the bytes are no answer.
    pub fn status(&self) -> u16 {
        self.first_line()[1].parse().unwrap_or(0)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.raw);
        let mut headers = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    }

    /// How a request goes on.
    pub fn request_body(&self) -> Body {
        self.body().unwrap_or(Body::Length(0))
    }

    /// How the answer to a request with this method goes on.
    pub fn answer_body(&self, method: &str) -> Body {
        if method == "HEAD" || matches!(self.status(), 100..=199 | 204 | 304) {
            return Body::Length(0);
        }
        self.body().unwrap_or(Body::ToTheEnd)
    }

    fn body(&self) -> Option<Body> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Some(Body::Chunks);
        }
        self.header("content-length").and_then(|value| value.parse().ok()).map(Body::Length)
    }
}

/// How a message goes on after its head; what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// This many bytes.
    Length(usize),
    /// In chunks.
    Chunks,
    /// Until the connection is closed.
    ToTheEnd,
    /// Nothing is left.
    Read,
}

impl Body {
    /// The next bytes, without the frame of chunks; `None` after the last ones.
    pub async fn next(&mut self, line: &mut Line) -> Result<Option<Bytes>> {
        match *self {
            Self::Read | Self::Length(0) => {
                *self = Self::Read;
                Ok(None)
            }
            Self::Length(left) => {
                if line.unused().is_empty() && !line.fill().await? {
                    return Err(Error::from(std::io::ErrorKind::UnexpectedEof));
                }
                let have = line.unused().len().min(left);
                *self = Self::Length(left - have);
                Ok(Some(line.unused().split_to(have).freeze()))
            }
            Self::ToTheEnd => {
                if line.unused().is_empty() && !line.fill().await? {
                    *self = Self::Read;
                    return Ok(None);
                }
                Ok(Some(line.unused().split().freeze()))
            }
            Self::Chunks => {
                let chunk = chunk(line).await?;
                if chunk.is_none() {
                    *self = Self::Read;
                }
                Ok(chunk)
            }
        }
    }

    /// All of it.
    pub async fn all(mut self, line: &mut Line) -> Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.next(line).await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// These bytes in the frame of this body, as they follow a head that announces it.
    pub fn framed(self, bytes: &[u8]) -> Bytes {
        if self != Self::Chunks {
            return Bytes::copy_from_slice(bytes);
        }
        if bytes.is_empty() {
            return Bytes::new();
        }
        let mut framed = BytesMut::from(format!("{:x}\r\n", bytes.len()).as_bytes());
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        framed.freeze()
    }

    /// What ends a body of this kind.
    pub fn end(self) -> &'static [u8] {
        if self == Self::Chunks { b"0\r\n\r\n" } else { b"" }
    }
}

/// One chunk's bytes; `None` after the last one. Trailers are dropped. Dropping this future between two polls loses nothing: a chunk is
/// taken from the buffer as a whole.
async fn chunk(line: &mut Line) -> Result<Option<Bytes>> {
    let size_line = loop {
        if let Some(at) = line.unused().windows(2).position(|two| two == b"\r\n") {
            break at;
        }
        more(line).await?;
    };
    let text = String::from_utf8_lossy(&line.unused()[..size_line]).into_owned();
    let size = text.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).map_err(Error::other)?;
    if size == 0 {
        while !line.unused()[size_line..].windows(4).any(|four| four == b"\r\n\r\n") {
            more(line).await?;
        }
        let end = line.unused()[size_line..].windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
        let _ = line.unused().split_to(size_line + end + 4);
        return Ok(None);
    }
    let whole = size_line + 2 + size + 2;
    while line.unused().len() < whole {
        more(line).await?;
    }
    let chunk = line.unused().split_to(whole).freeze();
    Ok(Some(chunk.slice(size_line + 2..whole - 2)))
}

async fn more(line: &mut Line) -> Result<()> {
    if line.fill().await? { Ok(()) } else { Err(Error::from(std::io::ErrorKind::UnexpectedEof)) }
}
