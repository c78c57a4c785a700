//! Archives and differences as they come and go, part by part.

use std::fmt;

use protobuf::MessageField;
use ttrpc::asynchronous::{ClientStream, ClientStreamReceiver};
use ttrpc::context::Context;

use super::{Client, Failure};
use crate::protos::admin::{
    Change, DiffRequest, DiffResponse, ExportRequest, ExportResponse, ImportRequest, ImportResponse, ImportTo,
};

impl Client {
    /// How two states differ, batch by batch.
    pub async fn diff(&self, mut request: DiffRequest) -> Result<Changes<'_>, Failure> {
        request.containerd = MessageField::some(self.containerd.clone());
        let stream = self.admin.diff(Context::default(), &request).await.map_err(|e| self.failure(e))?;
        Ok(Changes { client: self, stream })
    }

    /// A state or an image as an archive.
    pub async fn export(&self, mut request: ExportRequest) -> Result<Parts<'_>, Failure> {
        request.containerd = MessageField::some(self.containerd.clone());
        let stream = self.admin.export(Context::default(), &request).await.map_err(|e| self.failure(e))?;
        Ok(Parts { client: self, stream })
    }

    /// Begins an image of an archive that is sent then.
    pub async fn import(&self, mut to: ImportTo) -> Result<Upload<'_>, Failure> {
        to.containerd = MessageField::some(self.containerd.clone());
        let stream = self.admin.import(Context::default()).await.map_err(|e| self.failure(e))?;
        let mut upload = Upload { client: self, stream, sent: 0, made: None };
        let first = ImportRequest { to: MessageField::some(to), ..Default::default() };
        upload.put(&first).await?;
        upload.answer().await?;
        Ok(upload)
    }
}

/// Differences as they come.
pub struct Changes<'a> {
    client: &'a Client,
    stream: ClientStreamReceiver<DiffResponse>,
}

impl Changes<'_> {
    /// The next ones; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Change>>, Failure> {
        let batch = self.stream.recv().await.map_err(|e| self.client.failure(e))?;
        Ok(batch.map(|batch| batch.changes))
    }
}

/// An archive as it comes.
///
/// ttrpc's client reads ahead without bounds where it can. It can only while this process waits for the next part:
/// who writes each part before it asks for the next, on the one thread that there is, holds loomd up.
pub struct Parts<'a> {
    client: &'a Client,
    stream: ClientStreamReceiver<ExportResponse>,
}

impl Parts<'_> {
    /// The next bytes; none at the end. An archive that breaks off is an error.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let part = self.stream.recv().await.map_err(|e| self.client.failure(e))?;
        Ok(part.map(|part| part.data))
    }
}

/// An archive as it goes. One that is dropped before its end is none, and loomd undoes what it has made of it once
/// this process has ended.
pub struct Upload<'a> {
    client: &'a Client,
    stream: ClientStream<ImportRequest, ImportResponse>,
    sent: u64,
    /// What became of it; before its end where the same request was carried out before.
    made: Option<ImportResponse>,
}

impl Upload<'_> {
    /// Sends the next bytes, and waits until they have come, or none are wanted any more.
    pub async fn send(&mut self, data: Vec<u8>) -> Result<(), Failure> {
        let offset = self.sent;
        self.sent += data.len() as u64;
        self.put(&ImportRequest { data, offset, ..Default::default() }).await?;
        while self.made.is_none() && self.answer().await? < self.sent {}
        Ok(())
    }

    /// Says that the archive has ended, and answers what became of it.
    pub async fn end(mut self) -> Result<ImportResponse, Failure> {
        if self.made.is_none() {
            self.put(&ImportRequest { offset: self.sent, end: true, ..Default::default() }).await?;
        }
        loop {
            match self.made.take() {
                Some(made) => return Ok(made),
                None => self.answer().await?,
            };
        }
    }

    /// Leaves it without its end, and waits until what loomd made of it is undone.
    pub async fn abandon(mut self) {
        if self.stream.close_send().await.is_ok() {
            // Why it is refused then, whoever left it knows.
            let _ = self.over().await;
        }
    }

    /// Waits until no more is wanted: it was made, or it is refused. It may be dropped meanwhile.
    pub async fn over(&mut self) -> Result<(), Failure> {
        while self.made.is_none() {
            self.answer().await?;
        }
        Ok(())
    }

    async fn put(&mut self, request: &ImportRequest) -> Result<(), Failure> {
        match self.stream.send(request).await {
            Ok(()) => Ok(()),
            // loomd may have said why before it took no more.
            Err(lost) => loop {
                match self.stream.recv().await {
                    Ok(answer) if answer.image.is_some() => {
                        self.made = Some(answer);
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(refused @ ttrpc::Error::RpcStatus(_)) => return Err(self.client.failure(refused)),
                    Err(_) => return Err(self.client.failure(lost)),
                }
            },
        }
    }

    /// Waits for an answer; of what was not made yet, how many bytes have come.
    async fn answer(&mut self) -> Result<u64, Failure> {
        let answer = self.stream.recv().await.map_err(|e| self.client.failure(e))?;
        let received = answer.received;
        self.made = Some(answer).filter(|answer| answer.image.is_some());
        Ok(received)
    }
}

/// A stream and its client have no more to show than whom it is of.
macro_rules! debug {
    ($($stream:ident),*) => {$(
        impl fmt::Debug for $stream<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($stream)).field("client", &self.client).finish_non_exhaustive()
            }
        }
    )*};
}

debug!(Changes, Parts, Upload);
