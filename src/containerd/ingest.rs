//! A blob on its way into containerd's content store, in parts, as they come.
//!
//! ```text
//! begin ── write ── write ── … ── commit    the blob is there, by its digest, under the client's lease
//!            └─ dropped, or aborted: nothing of it is (after a crash, once its lease ends)
//! ```

use std::time::Duration;

use containerd_client::services::v1::{AbortRequest, WriteAction, WriteContentRequest};
use containerd_client::tonic::{Code, Status};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::client::{Client, or_missing};
use crate::error::{Error, Kind, Result};
use crate::store::Id;

/// The parts that are under way at once.
const AHEAD: usize = 4;
/// How long containerd may take for one part before it is given up.
const STALLED: Duration = Duration::from_mins(2);

/// A blob that is being written.
#[derive(Debug)]
pub(super) struct Ingest {
    client: Client,
    reference: String,
    parts: mpsc::Sender<WriteContentRequest>,
    answered: JoinHandle<std::result::Result<(), Status>>,
    hash: Sha256,
    written: i64,
}

/// A blob that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// The digest of its bytes.
    pub(super) digest: String,
    /// Their number.
    pub(super) size: i64,
}

impl Ingest {
    /// Begins one, under the client's lease.
    pub(super) fn begin(leased: &Client) -> Result<Self> {
        let (parts, mut queue) = mpsc::channel(AHEAD);
        let (client, mut content) = (leased.clone(), leased.content());
        let request = leased.lasting(futures::stream::poll_fn(move |context| queue.poll_recv(context)));
        let answered = tokio::spawn(async move {
            let mut answers = content.write(request).await?.into_inner();
            // Unread, they would hold up the parts in the end.
            while let Some(answer) = answers.next().await {
                answer?;
            }
            Ok(())
        });
        // A writer of its own: two that write the same at once would wait for each other.
        let reference = format!("loom-{}", Id::random()?);
        Ok(Self { client, reference, parts, answered, hash: Sha256::new(), written: 0 })
    }

    /// Writes the next bytes.
    pub(super) async fn write(&mut self, data: Vec<u8>) -> Result<()> {
        crate::fault::point("containerd.ingest.write")?;
        self.hash.update(&data);
        let part = WriteContentRequest {
            action: WriteAction::Write.into(),
            r#ref: self.reference.clone(),
            offset: self.written,
            data,
            ..WriteContentRequest::default()
        };
        self.written += i64::try_from(part.data.len()).unwrap_or(i64::MAX);
        match tokio::time::timeout(STALLED, self.parts.send(part)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.refused().await),
            Err(_) => Err(self.stalled()),
        }
    }

    /// Ends it. Bytes that are there already are not there twice; `labels` are theirs only where they are new.
    pub(super) async fn commit(mut self, labels: &[(String, String)]) -> Result<Written> {
        crate::fault::point("containerd.ingest.commit")?;
        let digest = format!("sha256:{:x}", std::mem::take(&mut self.hash).finalize());
        let last = WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: self.reference.clone(),
            offset: self.written,
            total: self.written,
            expected: digest.clone(),
            labels: labels.iter().cloned().collect(),
            ..WriteContentRequest::default()
        };
        if self.parts.send(last).await.is_err() {
            return Err(self.refused().await);
        }
        match tokio::time::timeout(STALLED, &mut self.answered).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(status))) if status.code() == Code::AlreadyExists => {}
            Ok(Ok(Err(status))) => return Err(self.client.failed(format!("write blob {digest}"))(status)),
            Ok(Err(died)) => {
                return Err(Error::Internal(format!("the writer of blob {digest} died: {died}")));
            }
            Err(_) => return Err(self.stalled()),
        }
        Ok(Written { digest, size: self.written })
    }

    /// Gives it up; nothing of it stays.
    pub(super) async fn abort(self) -> Result<()> {
        let Self { client, reference, parts, answered, .. } = self;
        // Its end is the stream's: containerd lets go of the writer first.
        drop(parts);
        let _ = tokio::time::timeout(STALLED, answered).await;
        let request = client.request(AbortRequest { r#ref: reference.clone() });
        or_missing(client.content().abort(request).await)
            .map_err(client.failed(format!("give up the write {reference}")))?;
        Ok(())
    }

    /// Why containerd takes no more parts.
    async fn refused(&mut self) -> Error {
        match (&mut self.answered).await {
            Ok(Err(status)) => self.client.failed("write a blob")(status),
            ended => Error::Internal(format!("the writer of a blob ended too early: {ended:?}")),
        }
    }

    fn stalled(&self) -> Error {
        Error::Containerd {
            action: "write a blob".to_owned(),
            message: format!("no part of it was taken in {} s; is its disk stuck?", STALLED.as_secs()),
            kind: Kind::Unavailable,
        }
    }
}
