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

use tokio::sync::mpsc::{self, Receiver, Sender};
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
        let (to, parts) = mpsc::channel(WAITING);
        let exported = self.branch(|brancher| async move {
            brancher.export(&target, &reference, archive, compression, image, options, to).await
        });
        // A client that is gone ends the sending, and with that the export.
        let (exported, sent) = tokio::join!(exported, send(parts, sender, &self.stop));
        sent?;
        Ok(exported?)
    }

    pub(super) async fn take_archive(
        &self,
        stream: ServerStream<ImportResponse, ImportRequest>,
    ) -> ttrpc::Result<()> {
        let operations = Arc::clone(&self.operations);
        let mut upload = Upload { stream, received: 0, operation: None, operations, stop: self.stop.clone() };
        let mut first = upload.next().await?;
        if first == ImportRequest::new() {
            // Go's ttrpc opens a stream with a request that this one takes for an empty message.
            first = upload.next().await?;
        }
        let Some(to) = first.to.into_option() else {
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

/// Sends an archive to its end.
async fn send(
    mut parts: Receiver<Vec<u8>>,
    sender: &ServerStreamSender<ExportResponse>,
    stop: &CancellationToken,
) -> ttrpc::Result<()> {
    loop {
        let part = tokio::select! {
            part = parts.recv() => part,
            () = stop.cancelled() => {
                let why = "loomd is stopping; export it again once it runs";
                return Err(ttrpc::Error::RpcStatus(get_status(Code::UNAVAILABLE, why)));
            }
        };
        let Some(part) = part else { return Ok(()) };
        for data in part.chunks(PART) {
            // It answers once this is written to the socket: a client that reads slowly holds it up, and so whoever
            // writes the archive.
            sender.send(&ExportResponse { data: data.to_vec(), ..Default::default() }).await?;
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use protobuf::Message as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;
    use tokio::sync::oneshot;
    use ttrpc::r#async::{Client, ClientStream, Server, TtrpcContext};
    use ttrpc::context::Context;

    use super::*;
    use crate::operation::{Ask, Work};
    use crate::protos::admin_ttrpc::{self, AdminClient};
    use crate::store::{OperationKind, Store};

    const OPERATION: &str = "0123456789abcdef0123456789abcdef";

    /// Takes archives as the service does, and hands them to the test.
    struct Door {
        operations: Arc<Operations>,
        taken: Mutex<Option<Sender<Result<Vec<u8>>>>>,
        /// Parts that an export could hand over.
        sent: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl admin_ttrpc::Admin for Door {
        async fn import(
            &self,
            _: &TtrpcContext,
            stream: ServerStream<ImportResponse, ImportRequest>,
        ) -> ttrpc::Result<()> {
            let taken = self.taken.lock().unwrap().take().unwrap();
            let operation = Some(OPERATION.parse().unwrap());
            let (operations, stop) = (Arc::clone(&self.operations), CancellationToken::new());
            let mut upload = Upload { stream, received: 0, operation, operations, stop };
            upload.feed(taken).await;
            Ok(())
        }

        async fn export(
            &self,
            _: &TtrpcContext,
            _: ExportRequest,
            sender: ServerStreamSender<ExportResponse>,
        ) -> ttrpc::Result<()> {
            let (to, parts) = mpsc::channel(WAITING);
            let sent = Arc::clone(&self.sent);
            tokio::spawn(async move {
                while to.send(vec![7; PART]).await.is_ok() {
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                sent.store(usize::MAX, Ordering::SeqCst);
            });
            send(parts, &sender, &CancellationToken::new()).await
        }
    }

    /// A served [`Door`].
    struct House {
        operations: Arc<Operations>,
        taken: Receiver<Result<Vec<u8>>>,
        sent: Arc<AtomicUsize>,
        socket: std::path::PathBuf,
        _server: Server,
        _dir: tempfile::TempDir,
    }

    impl House {
        async fn open() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("loom.db")).unwrap();
            let operations = Operations::open(store.into()).unwrap();
            let (to, taken) = mpsc::channel(1);
            let sent = Arc::default();
            let door = Door {
                operations: Arc::clone(&operations),
                taken: Mutex::new(Some(to)),
                sent: Arc::clone(&sent),
            };
            let socket = dir.path().join("sock");
            let address = format!("unix://{}", socket.display());
            let service = admin_ttrpc::create_admin(Arc::new(door));
            let mut server = Server::new().bind(&address).unwrap().register_service(service);
            server.start().await.unwrap();
            Self { operations, taken, sent, socket, _server: server, _dir: dir }
        }

        async fn upload(&self) -> (Client, ClientStream<ImportRequest, ImportResponse>) {
            let client = Client::connect(&format!("unix://{}", self.socket.display())).await.unwrap();
            let stream = AdminClient::new(client.clone()).import(Context::default()).await.unwrap();
            (client, stream)
        }

        /// What whoever reads the archive is told at its end.
        async fn end(&mut self) -> String {
            self.taken.recv().await.unwrap().unwrap_err().to_string()
        }
    }

    fn part(offset: u64, data: &[u8], end: bool) -> ImportRequest {
        ImportRequest { offset, data: data.to_vec(), end, ..Default::default() }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parts_come_in_order_and_end_where_the_client_says_so() {
        let mut house = House::open().await;
        let (_client, mut stream) = house.upload().await;
        let sent = tokio::spawn(async move {
            for n in 0..100_u8 {
                stream.send(&part(u64::from(n), &[n], n == 99)).await.unwrap();
                while n < 99 && stream.recv().await.unwrap().received <= u64::from(n) {}
            }
        });
        let mut whole = Vec::new();
        while let Some(part) = house.taken.recv().await {
            whole.extend(part.unwrap());
        }
        sent.await.unwrap();
        assert_eq!(whole, (0..100).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn an_archive_that_breaks_off_has_no_end() {
        let mut house = House::open().await;
        let (client, stream) = house.upload().await;
        stream.send(&part(0, b"abc", false)).await.unwrap();
        assert_eq!(house.taken.recv().await.unwrap().unwrap(), b"abc");
        // The connection ends, and nothing else tells it.
        drop((stream, client));
        assert_eq!(house.end().await, "the archive was cut off after 3 bytes: its client went away");
        assert!(house.taken.recv().await.is_none());

        let mut house = House::open().await;
        let (_client, stream) = house.upload().await;
        stream.close_send().await.unwrap();
        assert!(house.end().await.ends_with("closed it and did not say that it has ended"));
    }

    #[tokio::test]
    async fn a_part_that_does_not_follow_is_refused() {
        let mut house = House::open().await;
        let (_client, stream) = house.upload().await;
        stream.send(&part(1, b"b", false)).await.unwrap();
        let refused = house.taken.recv().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), "INVALID_ARGUMENT", "{refused}");
    }

    #[tokio::test]
    async fn an_import_that_is_cancelled_waits_for_no_part() {
        let House { operations, mut taken, socket, _server, _dir, .. } = House::open().await;
        let (begun, wait) = oneshot::channel();
        let ask = Ask {
            id: Some(OPERATION.parse().unwrap()),
            kind: OperationKind::Import,
            subject: "app".into(),
            address: "/run/c".into(),
            namespace: "default".into(),
            key: None,
            request: serde_json::json!({}),
        };
        let all = Arc::clone(&operations);
        let work = tokio::spawn(async move {
            let work = |_: Work| async move {
                begun.send(()).unwrap();
                taken.recv().await.unwrap().map(|part| part.len())
            };
            all.run(ask, work).await.unwrap_err().code().to_owned()
        });
        wait.await.unwrap();
        let client = Client::connect(&format!("unix://{}", socket.display())).await.unwrap();
        let _stream = AdminClient::new(client).import(Context::default()).await.unwrap();
        operations.cancel(OPERATION).unwrap();
        assert_eq!(work.await.unwrap(), "CANCELLED");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_waits_for_its_client() {
        let house = House::open().await;
        let mut client = UnixStream::connect(&house.socket).await.unwrap();
        let request = ttrpc::proto::Request {
            service: "loom.admin.v1.Admin".into(),
            method: "Export".into(),
            ..Default::default()
        };
        let payload = request.write_to_bytes().unwrap();
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        // Its length, stream 1, a request, and nothing more from here.
        let header = [&length[..], &1_u32.to_be_bytes(), &[1, 1]].concat();
        client.write_all(&[header, payload].concat()).await.unwrap();
        // It reads nothing: what is on its way is what the channel and the socket hold, and one between.
        while house.sent.load(Ordering::SeqCst) < WAITING {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(house.sent.load(Ordering::SeqCst) <= WAITING + 2);
        // And once it is gone, the export ends.
        drop(client);
        while house.sent.load(Ordering::SeqCst) != usize::MAX {
            tokio::task::yield_now().await;
        }
    }
}
