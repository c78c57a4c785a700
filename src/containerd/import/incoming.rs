//! The bytes of an archive as they come from a client, for readers that block.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;

use crate::error::{Error, Result};
use crate::operation::Work;

/// How often it is asked whether the operation was cancelled while nothing comes.
const LOOK: Duration = Duration::from_millis(500);
/// How many bytes come between two tellings of the progress.
const TOLD: u64 = 1 << 20;

/// Reads what a client sends. On a thread that may block, beside a runtime.
#[derive(Debug)]
pub(super) struct Incoming {
    from: Receiver<Result<Vec<u8>>>,
    runtime: Handle,
    work: Work,
    part: Vec<u8>,
    at: usize,
    came: u64,
    failed: Failed,
}

/// Why the bytes ended too early, where that was not the archive's fault.
#[derive(Debug, Clone, Default)]
pub(super) struct Failed(Arc<Mutex<Option<Error>>>);

impl Failed {
    fn set(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What a reader of it failed with: the sender's error, or the cancellation, before what it made of them.
    pub(super) fn or(&self, error: Error) -> Error {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error)
    }
}

impl Incoming {
    /// Called in the runtime that the bytes come in.
    pub(super) fn new(from: Receiver<Result<Vec<u8>>>, work: &Work) -> (Self, Failed) {
        let failed = Failed::default();
        let incoming = Self {
            from,
            runtime: Handle::current(),
            work: work.clone(),
            part: Vec::new(),
            at: 0,
            came: 0,
            failed: failed.clone(),
        };
        (incoming, failed)
    }

    /// The next part; none at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            self.work.check()?;
            let next = async { tokio::time::timeout(LOOK, self.from.recv()).await };
            if let Ok(part) = self.runtime.block_on(next) {
                return part.transpose();
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at == self.part.len() {
            match self.next() {
                Ok(Some(part)) => (self.part, self.at) = (part, 0),
                Ok(None) => return Ok(0),
                Err(error) => {
                    let told = io::Error::other(error.to_string());
                    self.failed.set(error);
                    return Err(told);
                }
            }
        }
        let count = to.len().min(self.part.len() - self.at);
        to[..count].copy_from_slice(&self.part[self.at..self.at + count]);
        self.at += count;
        let before = self.came;
        self.came += count as u64;
        if before / TOLD != self.came / TOLD {
            // Nobody knows how much there is.
            self.work.progress(self.came, 0);
        }
        Ok(count)
    }
}
