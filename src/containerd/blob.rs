//! Layers as blobs of containerd's content store: read from a state, compressed, and written as they come.
//!
//! ```text
//!  a thread             a thread, and the compressor's        here
//!  the state as a tar → hashed, compressed, hashed again    → containerd's content store
//! ```
//!
//! What is between two of them is bounded: the slowest decides, and memory does not grow with the layer. The same
//! state gives the same blob, however many processors there are. What was begun and not finished is taken back;
//! what a crash leaves is found by its operation ([`abandon`]).

mod compress;
pub(super) mod ingest;
mod parts;

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

pub(super) use self::ingest::abandon;

use self::compress::Compressor;
use self::ingest::Ingest;
pub(super) use self::parts::Parts;
use super::client::Client;
use super::{Brancher, Compression, blocking};
use crate::error::{Error, Result};
use crate::fault;
use crate::operation::Work;
use crate::snapshot::Snapshots;
use crate::store::Layer;

/// Parts that may wait between two stages.
const WAITING: usize = 4;
/// How often progress is told, and asked whether the operation was cancelled.
const TICK: Duration = Duration::from_millis(100);

/// A layer that is in the content store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// Its media type.
    pub(super) media: &'static str,
    /// Its digest, as it is stored.
    pub(super) digest: String,
    /// Its bytes, as it is stored.
    pub(super) size: i64,
    /// The digest of its tar.
    pub(super) diff_id: String,
}

impl Brancher {
    /// Writes what the topmost `count` layers of a sealed chain make of those below, labelled with the digest of its
    /// tar. The client's lease keeps it; one that is there already is as good. On an error nothing is left.
    pub(super) async fn write_layer(
        &self,
        work: &Work,
        leased: &Client,
        chain: Vec<Layer>,
        count: usize,
        compression: Compression,
    ) -> Result<Blob> {
        let (core, told) = (Arc::clone(&self.core), work.clone());
        let read = move |parts: &mut Parts| {
            let mut progress = Progress::new(&core, &told, chain.get(..count).unwrap_or(&chain))?;
            core.archive(&chain, count, parts, &mut |bytes| {
                progress.add(bytes);
                Ok(())
            })
        };
        write_tar(work, leased, compression, read).await
    }
}

/// As `write_layer`, of the tar that `read` writes on a thread that may block.
pub(super) async fn write_tar(
    work: &Work,
    leased: &Client,
    compression: Compression,
    read: impl FnOnce(&mut Parts) -> Result<()> + Send + 'static,
) -> Result<Blob> {
    let written = write(work, leased, compression, read).await;
    if written.is_err()
        && let Err(error) = abandon(leased, work.id()).await
    {
        work.leaves(&error);
    }
    written
}

async fn write(
    work: &Work,
    leased: &Client,
    compression: Compression,
    read: impl FnOnce(&mut Parts) -> Result<()> + Send + 'static,
) -> Result<Blob> {
    let ingest = Ingest::open(leased, work.id()).await?;
    let (packed, packs) = channel(WAITING);
    let (tell, made) = oneshot::channel();
    let maker = tokio::task::spawn_blocking(move || {
        // Nobody listens any more where the upload failed.
        let _ = tell.send(make(compression, packed, read));
    });
    let written = tokio::select! {
        written = upload(leased, ingest, packs, made) => written,
        error = cancelled(work) => Err(error),
    };
    // Once this answers nothing is read any more.
    maker.await.map_err(|_| died())?;
    written
}

/// Sends the tree of a whole chain as a plain tar, in parts. `tell` hears how many bytes of files were read, and may
/// end it. A receiver that wants no more ends it without an error.
pub(super) async fn send_tree(
    core: &Arc<Snapshots>,
    chain: Vec<Layer>,
    to: Sender<Vec<u8>>,
    mut tell: impl FnMut(u64) -> Result<()> + Send + 'static,
) -> Result<()> {
    blocking(core, move |core| {
        let mut parts = Parts::new(to.clone());
        let sent = core.archive(&chain, chain.len(), &mut parts, &mut tell);
        match sent.and_then(|()| parts.end().map_err(Error::io("send", "the archive"))) {
            Err(_) if to.is_closed() => Ok(()),
            sent => sent,
        }
    })
    .await
}

/// Writes the parts as they come and, once all that they were made of is known to be whole, ends the blob.
async fn upload(
    client: &Client,
    ingest: Ingest,
    mut packs: Receiver<Vec<u8>>,
    made: oneshot::Receiver<Result<Blob>>,
) -> Result<Blob> {
    let (mut writer, mut answers) = ingest.split();
    let feed = async {
        while let Some(part) = packs.recv().await {
            fault::point("containerd.blob.write")?;
            if !writer.write(part).await {
                // Why, containerd's answer says.
                return pending().await;
            }
        }
        let blob = made.await.map_err(|_| died())??;
        fault::point("containerd.blob.commit")?;
        writer.commit(Some(&blob.diff_id)).await;
        Ok(blob)
    };
    let (blob, end) = tokio::try_join!(feed, answers.end())?;
    ingest::check(client, &blob, end).await?;
    Ok(blob)
}

/// Reads, compresses and hashes a tar; sends it in parts. What it answers is a blob only if it was sent whole.
fn make(
    compression: Compression,
    packed: Sender<Vec<u8>>,
    read: impl FnOnce(&mut Parts) -> Result<()> + Send,
) -> Result<Blob> {
    let (parts, tar) = channel(WAITING);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut parts = Parts::new(parts);
            read(&mut parts)?;
            parts.end().map_err(Error::io("write", "the layer"))
        });
        let packed = pack(tar, compression, packed);
        let read = reader.join().map_err(|_| died())?;
        // A reader fails too where nobody takes what it reads.
        let blob = packed?;
        read.map(|()| blob)
    })
}

/// Compresses and hashes a tar.
fn pack(mut tar: Receiver<Vec<u8>>, compression: Compression, to: Sender<Vec<u8>>) -> Result<Blob> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let packed = || {
        let mut compressor = Compressor::new(compression, threads, to)?;
        while let Some(part) = tar.blocking_recv() {
            compressor.write(&part)?;
        }
        compressor.end()
    };
    packed().map_err(Error::io("compress", "the layer"))
}

/// Waits until the operation is cancelled.
pub(super) async fn cancelled(work: &Work) -> Error {
    loop {
        if let Err(error) = work.check() {
            return error;
        }
        tokio::time::sleep(TICK).await;
    }
}

fn died() -> Error {
    Error::Internal("what writes a layer died".to_owned())
}

/// How much of the layers is read, told now and then.
struct Progress<'a> {
    work: &'a Work,
    done: u64,
    total: u64,
    told: Instant,
}

impl<'a> Progress<'a> {
    fn new(core: &Snapshots, work: &'a Work, layers: &[Layer]) -> Result<Self> {
        let mut total = 0;
        for layer in layers {
            total += u64::try_from(core.layers().measure(layer)?.size).unwrap_or_default();
        }
        Ok(Self { work, done: 0, total, told: Instant::now() })
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.told.elapsed() >= TICK {
            self.told = Instant::now();
            self.tell();
        }
    }

    fn tell(&self) {
        // Compressed by their filesystem, files have more bytes than blocks.
        self.work.progress(self.done, self.total.max(self.done));
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}
