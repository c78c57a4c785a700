//! Archives over ttrpc: export sends one in parts, import takes one.
//!
//! ```text
//!  import:   client                        here                       brancher
//!            to ──────────────────────────►
//!            ◄───────────────── received 0
//!            part (offset 0) ─────────────► ── bounded channel ─────► reads
//!            ◄───────────────── received n
//!            part (offset n), end ────────► ── the channel ends ────►
//!            ◄───────── image, operation                           ── made
//! ```
//!
//! The server of this ttrpc hands each frame to a task of its own: frames that follow each other unanswered may
//! overtake each other and wait in memory without bounds. And a stream whose client has gone is told nothing: it
//! waits for ever. So parts are answered one by one, and a silent client is told now and then how much has come,
//! which fails once it is gone. Whatever ends an archive before its client says that it is whole is an error to
//! whoever reads it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Sender};
use tokio_util::sync::CancellationToken;
use ttrpc::r#async::{ServerStream, ServerStreamSender};
use ttrpc::{Code, get_status};

use super::{Admin, request};
use crate::error::{Error, Result};
use crate::operation::Operations;
use crate::protos::admin::{ExportRequest, ExportResponse, ImportRequest, ImportResponse};
use crate::store::Id;

/// The largest part that is sent, in bytes: a message may have 4 MiB.
const PART: usize = 1 << 20;
/// Parts that wait for whoever is slower.
const WAITING: usize = 2;
/// How often a client that sends nothing is looked at.
const LOOK: Duration = Duration::from_millis(500);

impl Admin {
    pub(super) async fn send_archive(
        &self,
        request: ExportRequest,
        sender: &ServerStreamSender<ExportResponse>,
    ) -> ttrpc::Result<()> {
        let target = self.target(request.containerd.into_option());
        let options = request::only(request.options.into_option())?;
        let archive = request::archive(request.format)?;
        let compression = request::compression(request.compression)?;
        let (reference, image) = (request.reference, request::some(request.image));
        let (to, mut parts) = mpsc::channel::<Vec<u8>>(WAITING);
        let exported = self.branch(|brancher| async move {
            brancher.export(&target, &reference, archive, compression, image, options, to).await
        });
        let send = async move {
            loop {
                let part = tokio::select! {
                    part = parts.recv() => part,
                    () = self.stop.cancelled() => {
                        let why = "loomd is stopping; export it again once it runs";
                        return Err(ttrpc::Error::RpcStatus(get_status(Code::UNAVAILABLE, why)));
                    }
                };
                let Some(part) = part else { return Ok(()) };
                for data in part.chunks(PART) {
                    // Answers once it is written to the socket: a client that reads slowly holds this up, and so
                    // whoever writes the archive.
                    sender.send(&ExportResponse { data: data.to_vec(), ..Default::default() }).await?;
                }
            }
        };
        // A client that is gone ends `send`, and with its end of the channel the export.
        let (exported, sent) = tokio::join!(exported, send);
        sent?;
        Ok(exported?)
    }

    pub(super) async fn take_archive(
        &self,
        stream: ServerStream<ImportResponse, ImportRequest>,
    ) -> ttrpc::Result<()> {
        let operations = Arc::clone(&self.operations);
        let mut upload = Upload { stream, received: 0, operation: None, operations, stop: self.stop.clone() };
        let Some(to) = upload.next().await?.to.into_option() else {
            let rule = "the first message says what the archive is to be (to)";
            return Err(Error::invalid("an import", rule).into());
        };
        let target = self.target(to.containerd.clone().into_option());
        let (import, mut options) = request::import(to)?;
        upload.operation = Some(*options.operation.get_or_insert(Id::random()?));
        let (parts, from) = mpsc::channel(WAITING);
        let at = target.clone();
        let made = self.branch(|brancher| async move { brancher.import(&at, import, options, from).await });
        upload.tell().await?;
        // An import that has failed takes no more, and that ends the upload.
        let (made, ()) = tokio::join!(made, upload.feed(parts));
        let (id, made) = made?;
        let answer = ImportResponse {
            image: Some(self.made_image(target, id, made, true).await?).into(),
            operation: id.to_string(),
            received: upload.received,
            ..Default::default()
        };
        upload.stream.send(&answer).await
    }
}

/// An archive that a client is sending.
struct Upload {
    stream: ServerStream<ImportResponse, ImportRequest>,
    /// Bytes that have come.
    received: u64,
    /// The import's, once it has begun.
    operation: Option<Id>,
    operations: Arc<Operations>,
    /// The daemon's.
    stop: CancellationToken,
}

impl Upload {
    /// Hands the archive on. It has ended where the channel does without an error.
    async fn feed(&mut self, to: Sender<Result<Vec<u8>>>) {
        loop {
            let (part, last) = tokio::select! {
                part = self.part() => match part {
                    Ok(part) => (Ok(part.data), part.end),
                    Err(error) => (Err(error), true),
                },
                () = to.closed() => return,
            };
            let empty = part.as_ref().is_ok_and(Vec::is_empty);
            if (!empty && to.send(part).await.is_err()) || last {
                return;
            }
            // Where it fails the next look finds out.
            let _ = self.tell().await;
        }
    }

    /// The next part of the archive, where it follows those before.
    async fn part(&mut self) -> Result<ImportRequest> {
        let part = self.next().await?;
        if part.offset != self.received {
            let what =
                format!("a part at {} of an archive of which {} bytes came", part.offset, self.received);
            return Err(Error::invalid(what, "send each part when the one before it was answered"));
        }
        self.received += part.data.len() as u64;
        Ok(part)
    }

    /// The next message, or why none comes any more.
    async fn next(&mut self) -> Result<ImportRequest> {
        loop {
            tokio::select! {
                request = self.stream.recv() => return match request {
                    Ok(Some(request)) => Ok(request),
                    Ok(None) => Err(self.cut_off("its client closed it and did not say that it has ended")),
                    Err(_) => Err(self.cut_off("its client went away")),
                },
                () = self.stop.cancelled() => {
                    return Err(self.cut_off("loomd is stopping; import it again once it runs"));
                }
                () = tokio::time::sleep(LOOK) => {
                    if let Some(id) = self.operation.filter(|id| self.operations.called_off(*id)) {
                        return Err(Error::Cancelled(id));
                    }
                    if self.tell().await.is_err() {
                        return Err(self.cut_off("its client went away"));
                    }
                }
            }
        }
    }

    /// Tells the client how much has come: it may send the next part.
    async fn tell(&self) -> ttrpc::Result<()> {
        self.stream.send(&ImportResponse { received: self.received, ..Default::default() }).await
    }

    fn cut_off(&self, why: &'static str) -> Error {
        Error::CutOff { received: self.received, why }
    }
}
