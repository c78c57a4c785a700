//! A stream of bytes in parts of one size.

use std::io::{self, Write};

use tokio::sync::mpsc::Sender;

/// Bytes of a part. containerd takes messages of 16 MiB, and writes each as it comes.
const PART: usize = 1 << 20;

/// Sends what is written to it, in parts; waits where the receiver does. Not for asynchronous code.
#[derive(Debug)]
pub(in crate::containerd) struct Parts {
    to: Sender<Vec<u8>>,
    part: Vec<u8>,
}

impl Parts {
    pub(super) fn new(to: Sender<Vec<u8>>) -> Self {
        Self { to, part: Vec::with_capacity(PART) }
    }

    /// Sends what is left.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.part.is_empty() { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        self.to.blocking_send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.part.len() == PART {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A part is sent when it is full, or the last.
        Ok(())
    }
}
