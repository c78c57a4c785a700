//! A blob on its way into containerd's content store.

use std::time::Duration;

use containerd_client::services::v1::{
    Info, UpdateRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use containerd_client::tonic::{Code, Status, Streaming};
use futures::stream::poll_fn;
use prost_types::FieldMask;
use tokio::sync::mpsc::{Sender, channel};

use super::Blob;
use crate::containerd::client::Client;
use crate::containerd::leases;
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::store::Id;

/// What the unpacked digest of a layer is kept under; containerd would compute it again.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// How long containerd may take to begin one. What it then takes depends on the disk and the size.
const BEGIN: Duration = Duration::from_mins(1);

/// One that is open: containerd keeps what was written until it is committed or taken back.
pub(in crate::containerd) struct Ingest {
    writer: Writer,
    answers: Answers,
}

/// The way in.
pub(in crate::containerd) struct Writer {
    name: String,
    to: Sender<WriteContentRequest>,
    written: i64,
}

/// The way back.
pub(in crate::containerd) struct Answers {
    client: Client,
    answers: Streaming<WriteContentResponse>,
}

/// What has become of it.
pub(in crate::containerd) enum End {
    /// It is a blob of this digest.
    Made(String),
    /// There was that blob already.
    Existed,
}

impl Ingest {
    /// Begins that of an operation, or begins it anew.
    pub(in crate::containerd) async fn open(client: &Client, operation: Id) -> Result<Self> {
        fault::point("containerd.blob.open")?;
        let name = leases::of_operation(operation);
        let (to, mut messages) = channel(1);
        let writer = Writer { name, to, written: 0 };
        writer.send(WriteAction::Stat, WriteContentRequest::default()).await;
        let messages = poll_fn(move |context| messages.poll_recv(context));
        let begun = async {
            let mut answers = client.content().write(client.stream(messages)).await?.into_inner();
            // Only one that containerd has begun can be taken back.
            answers.message().await?;
            Ok(answers)
        };
        let late = |_| Err(Status::unavailable(format!("no answer in {} s", BEGIN.as_secs())));
        let answers = tokio::time::timeout(BEGIN, begun).await.unwrap_or_else(late);
        let answers = answers.map_err(client.failed("begin a layer"))?;
        Ok(Self { writer, answers: Answers { client: client.clone(), answers } })
    }

    /// The two ways, which are gone at the same time.
    pub(in crate::containerd) fn split(self) -> (Writer, Answers) {
        (self.writer, self.answers)
    }
}

impl Writer {
    /// Writes what comes next; false where containerd takes no more.
    pub(in crate::containerd) async fn write(&mut self, data: Vec<u8>) -> bool {
        let (offset, length) = (self.written, i64::try_from(data.len()).unwrap_or(i64::MAX));
        self.written += length;
        self.send(WriteAction::Write, WriteContentRequest { offset, data, ..WriteContentRequest::default() })
            .await
    }

    /// Makes a blob of what was written; `diff_id` is the digest of the tar in it, where that is known.
    pub(in crate::containerd) async fn commit(&self, diff_id: Option<&str>) {
        let message = WriteContentRequest {
            // The digest is compared when it answers. Told beforehand, one that is there already would not be
            // added to the lease.
            total: self.written,
            offset: self.written,
            labels: diff_id
                .map(|diff_id| (UNCOMPRESSED.to_owned(), diff_id.to_owned()))
                .into_iter()
                .collect(),
            ..WriteContentRequest::default()
        };
        self.send(WriteAction::Commit, message).await;
    }

    async fn send(&self, action: WriteAction, message: WriteContentRequest) -> bool {
        let message = WriteContentRequest { action: action.into(), r#ref: self.name.clone(), ..message };
        self.to.send(message).await.is_ok()
    }
}

impl Answers {
    /// Reads all of them, while the other way is written to.
    pub(in crate::containerd) async fn end(&mut self) -> Result<End> {
        let failed = |status| self.client.failed("write a layer")(status);
        loop {
            match self.answers.message().await {
                Ok(Some(answer)) if answer.action() == WriteAction::Commit => {
                    return Ok(End::Made(answer.digest));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(failed(Status::unavailable("it ended the write"))),
                Err(status) if status.code() == Code::AlreadyExists => return Ok(End::Existed),
                Err(status) => return Err(failed(status)),
            }
        }
    }
}

/// Makes sure that a blob is what was meant to be written, with its label.
pub(in crate::containerd) async fn check(client: &Client, blob: &Blob, end: End) -> Result<()> {
    match end {
        End::Made(digest) if digest == blob.digest => Ok(()),
        End::Made(digest) => Err(Error::Containerd {
            action: "write a layer".to_owned(),
            message: format!("it has {digest} of what was sent as {}; try again", blob.digest),
            kind: Kind::Internal,
        }),
        End::Existed => {
            let labels = [(UNCOMPRESSED.to_owned(), blob.diff_id.clone())].into();
            let request = client.request(UpdateRequest {
                info: Some(Info { digest: blob.digest.clone(), labels, ..Info::default() }),
                update_mask: Some(FieldMask { paths: vec![format!("labels.{UNCOMPRESSED}")] }),
            });
            let failed = client.failed(format!("label {}", blob.digest));
            client.content().update(request).await.map(drop).map_err(failed)
        }
    }
}
