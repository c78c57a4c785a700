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
        let mut upload = Upload { client: self, stream, sent: 0 };
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
}

impl Upload<'_> {
    /// Sends the next bytes, and waits until they have come.
    pub async fn send(&mut self, data: Vec<u8>) -> Result<(), Failure> {
        let offset = self.sent;
        self.sent += data.len() as u64;
        self.put(&ImportRequest { data, offset, ..Default::default() }).await?;
        while self.answer().await?.received < self.sent {}
        Ok(())
    }

    /// Says that the archive has ended, and answers what became of it.
    pub async fn end(mut self) -> Result<ImportResponse, Failure> {
        self.put(&ImportRequest { offset: self.sent, end: true, ..Default::default() }).await?;
        loop {
            let answer = self.answer().await?;
            if answer.image.is_some() {
                return Ok(answer);
            }
        }
    }

    /// Leaves it without its end, and waits until what loomd made of it is undone.
    pub async fn abandon(mut self) {
        if self.stream.close_send().await.is_ok() {
            self.refused().await;
        }
    }

    /// Why no more is taken, once that is so. Otherwise it waits for ever; it may be dropped meanwhile.
    pub async fn refused(&mut self) -> Failure {
        loop {
            if let Err(refused) = self.answer().await {
                return refused;
            }
        }
    }

    async fn put(&mut self, request: &ImportRequest) -> Result<(), Failure> {
        match self.stream.send(request).await {
            Ok(()) => Ok(()),
            // loomd may have said why before it took no more.
            Err(lost) => match self.stream.recv().await {
                Err(refused @ ttrpc::Error::RpcStatus(_)) => Err(self.client.failure(refused)),
                _ => Err(self.client.failure(lost)),
            },
        }
    }

    async fn answer(&mut self) -> Result<ImportResponse, Failure> {
        self.stream.recv().await.map_err(|e| self.client.failure(e))
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
