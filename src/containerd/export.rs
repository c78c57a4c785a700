//! Export: a state, or an image, as an archive.
//!
//! ```text
//!  tar   state (of a container: taken, and released behind it) ──► its tree
//!  oci   image, whole ─────────────────────────────────────────► its blobs
//!        image, in part this node's alone ── made portable ────►
//!        state ── lease ── written as a layer, documents ──────►  all of which goes with the lease
//! ```
//!
//! What is sent is sent as it is read: a receiver that is slow is waited for, and one that is gone ends it.

use std::io::{self, Write};

use tokio::sync::mpsc::Sender;

use super::client::Client;
use super::leases::Lease;
use super::manifest::Manifest;
use super::portable::{Stack, lacking};
use super::reference::Reference;
use super::state::Taking;
use super::{Archive, Brancher, Compression, Options, Portable, Target, blocking, image_name, images, request};
use crate::error::{Error, Result};
use crate::operation::Work;
use crate::snapshot::Keep;
use crate::store::{Id, Kind, OperationKind, Snapshot};

mod layout;

/// The bytes of one part of a tar.
const PART: usize = 1 << 20;

/// What an export sends to.
#[derive(Debug, Clone)]
struct Receiver(Sender<Vec<u8>>);

impl Receiver {
    /// Sends a part; false where nobody wants it any more.
    async fn send(&self, part: Vec<u8>) -> bool {
        part.is_empty() || self.0.send(part).await.is_ok()
    }
}

/// What is exported.
struct Request<'a> {
    target: &'a Target,
    reference: &'a str,
    compression: Compression,
    image: Option<String>,
    options: Options,
}

impl Brancher {
    /// Sends the archive in parts; one that its receiver does not want any more ends without an error.
    ///
    /// A container is exported as it is now. An image of which a part is this node's alone is made portable, as
    /// `portable` does it, before it goes into an OCI archive; of a state nothing stays.
    #[allow(clippy::too_many_arguments)] // As it is asked for.
    pub async fn export(
        &self,
        target: &Target,
        reference: &str,
        archive: Archive,
        compression: Compression,
        image: Option<String>,
        options: Options,
        to: Sender<Vec<u8>>,
    ) -> Result<()> {
        options.check()?;
        let image = image.as_deref().map(image_name::whole).transpose()?;
        let request = Request { target, reference, compression, image, options };
        let to = Receiver(to);
        match archive {
            Archive::Tar => self.export_tree(request, to).await,
            Archive::Oci => self.export_image(request, to).await,
        }
    }

    async fn export_tree(&self, request: Request<'_>, to: Receiver) -> Result<()> {
        let (state, taken) = self.state_of(&request, None).await?;
        // Where it is in use nobody removes it, and its layers stay while they are read.
        let _needed = self.core.need(state.id);
        let id = state.id;
        let sent = blocking(&self.core, move |core| {
            let chain = core.get(id)?.chain;
            let count = chain.len();
            let mut parts = Parts { to: to.0, part: Vec::with_capacity(PART), gone: false };
            let written = core.archive(&chain, count, &mut parts, &mut |_| Ok(()));
            let written = written.and_then(|()| parts.flush().map_err(Error::io("send", "an archive")));
            // Who does not want it any more is told nothing.
            if parts.gone { Ok(()) } else { written }
        })
        .await;
        if taken {
            self.release(id).await;
        }
        sent
    }

    /// The committed state that a reference means; true where it was taken for this.
    async fn state_of(&self, request: &Request<'_>, work: Option<&Work>) -> Result<(Snapshot, bool)> {
        let (found, holder) = self.locate(request.target, request.reference).await?;
        match found.kind {
            Kind::Committed => return Ok((found, false)),
            Kind::Active => {}
            Kind::View => {
                return Err(Error::WrongKind {
                    key: found.title(),
                    kind: found.kind,
                    needs: "an active or a committed one is exported",
                });
            }
        }
        let holder = match holder {
            Some(holder) => Some(holder),
            None => Self::holder(&self.core, request.target, &found).await?,
        };
        let taking = match work {
            Some(work) => Taking::asked(Keep::ForClones, work, &request.options),
            None => Taking { consistency: request.options.consistency, ..Taking::of(Keep::ForClones) },
        };
        let (state, _) = self.take(found.id, taking, holder.as_ref()).await?;
        Ok((state, true))
    }
}

/// Collects what is written into parts that are sent. On a thread that may block.
struct Parts {
    to: Sender<Vec<u8>>,
    part: Vec<u8>,
    gone: bool,
}

impl Write for Parts {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(PART - self.part.len());
        self.part.extend_from_slice(&data[..count]);
        if self.part.len() == PART {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        if !part.is_empty() && self.to.blocking_send(part).is_err() {
            self.gone = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_comes_in_parts_and_whole() {
        let (to, mut from) = tokio::sync::mpsc::channel(8);
        let mut parts = Parts { to, part: Vec::new(), gone: false };
        let data: Vec<u8> = (0..2 * PART + 5).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for piece in data.chunks(3000) {
            parts.write_all(piece).unwrap();
        }
        parts.flush().unwrap();
        let mut came = Vec::new();
        while let Ok(part) = from.try_recv() {
            assert!(part.len() <= PART);
            came.extend(part);
        }
        assert!(came == data);
        drop(from);
        parts.write_all(&[0; 10]).unwrap();
        assert!(parts.flush().is_err() && parts.gone);
    }
}
