//! What is read, as blobs of the content store, one after the other.

use std::io::Read;

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::form::bad;
use super::incoming::Failed;
use crate::containerd::blob::cancelled;
use crate::containerd::blob::ingest::{End, Ingest};
use crate::containerd::client::Client;
use crate::error::{Error, Result};
use crate::operation::Work;

/// The bytes of one part.
const PART: u64 = 1 << 20;

/// Stores blobs for an operation, under its lease, for readers that block.
#[derive(Debug)]
pub(super) struct Store {
    runtime: Handle,
    leased: Client,
    work: Work,
    failed: Failed,
}

/// A blob that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// The digest of its bytes.
    pub(super) digest: String,
    /// Their number.
    pub(super) size: i64,
}

impl Store {
    /// Called in the runtime that containerd is asked in. `failed` knows why what is read ends too early.
    pub(super) fn new(leased: &Client, work: &Work, failed: Failed) -> Self {
        Self { runtime: Handle::current(), leased: leased.clone(), work: work.clone(), failed }
    }

    /// Stores all that is read, as it is. Of what fails the lease keeps what there is.
    pub(super) fn put(&self, mut from: &mut dyn Read) -> Result<Written> {
        let ingest = self.runtime.block_on(Ingest::open(&self.leased, self.work.id()))?;
        let (mut writer, mut answers) = ingest.split();
        // Unread, they would hold up the parts in the end.
        let ended = self.runtime.spawn(async move { answers.end().await });
        let (mut hash, mut size) = (Sha256::new(), 0);
        loop {
            let mut part = Vec::new();
            let read = (&mut from).take(PART).read_to_end(&mut part);
            if read.map_err(|e| self.failed.or(bad(&e)))? == 0 {
                break;
            }
            hash.update(&part);
            size += i64::try_from(part.len()).unwrap_or(i64::MAX);
            let taken = self.runtime.block_on(async {
                tokio::select! {
                    taken = writer.write(part) => Ok(taken),
                    error = cancelled(&self.work) => Err(error),
                }
            });
            if !taken? {
                // Why, containerd's answer says.
                break;
            }
        }
        self.runtime.block_on(writer.commit(None));
        let ended = self.runtime.block_on(async {
            tokio::select! {
                ended = ended => ended.map_err(|_| Error::Internal("what writes a blob died".to_owned())),
                error = cancelled(&self.work) => Err(error),
            }
        });
        let digest = format!("sha256:{:x}", hash.finalize());
        match ended?? {
            End::Existed => Ok(Written { digest, size }),
            End::Made(made) if made == digest => Ok(Written { digest, size }),
            End::Made(made) => {
                Err(Error::Internal(format!("{made} was stored of what has the digest {digest}")))
            }
        }
    }
}
