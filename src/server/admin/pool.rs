//! The calls about the pool.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use ttrpc::r#async::ServerStreamSender;

use super::Admin;
use super::message::snapshot;
use crate::containerd::{Brancher, Moved};
use crate::error::{Error, Result};
use crate::pool::{Make, Seen};
use crate::protos::admin::{
    self as proto, CreatePoolRequest, CreatePoolResponse, GrowPoolRequest, GrowPoolResponse,
    MoveToPoolRequest, MoveToPoolResponse,
};

/// Containers that were moved and not told yet.
const WAITING: usize = 16;

impl Admin {
    pub(super) async fn make_pool(&self, request: CreatePoolRequest) -> ttrpc::Result<CreatePoolResponse> {
        let make = make(request)?;
        let seen = self.core.call(move |core| core.create_pool(&make)).await?;
        Ok(CreatePoolResponse { pool: seen.map(pool).into(), ..Default::default() })
    }

    pub(super) async fn enlarge_pool(&self, request: GrowPoolRequest) -> ttrpc::Result<GrowPoolResponse> {
        let seen = self.core.call(move |core| core.grow_pool(request.size)).await?;
        Ok(GrowPoolResponse { pool: seen.map(pool).into(), ..Default::default() })
    }

    pub(super) async fn bring_to_pool(
        &self,
        request: MoveToPoolRequest,
        sender: &ServerStreamSender<MoveToPoolResponse>,
    ) -> ttrpc::Result<()> {
        let target = self.target(request.containerd.into_option());
        let (tell, mut told) = mpsc::channel(WAITING);
        let references = request.references;
        let moves = self.branch(|brancher: Arc<Brancher>| async move {
            brancher.move_to_pool(&target, references, tell).await
        });
        let send = async {
            while let Some(one) = told.recv().await {
                sender.send(&answer(one)).await?;
            }
            Ok(())
        };
        let (done, told) = tokio::join!(moves, send);
        done?;
        told
    }
}

/// What a request has made.
fn make(request: CreatePoolRequest) -> Result<Make> {
    let CreatePoolRequest { size, device, path, .. } = request;
    match (size, device.as_str(), path.as_str()) {
        (0, "", "") => Ok(Make::Image(None)),
        (size, "", "") => Ok(Make::Image(Some(size))),
        (0, device, "") => absolute(device).map(Make::Device),
        (0, "", path) => absolute(path).map(Make::Directory),
        _ => Err(Error::invalid(
            "the pool",
            "it is an image of a size, a device or a directory: name one of these",
        )),
    }
}

fn absolute(path: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Error::invalid(
        format!("path {:?}", path.display()),
        "it must be an absolute one: loomd runs elsewhere",
    ))
}

fn answer(moved: Moved) -> MoveToPoolResponse {
    let (seen, refused) = match moved.snapshot {
        Ok(seen) => (Some(snapshot(seen)), String::new()),
        Err(error) => (None, error.to_string()),
    };
    MoveToPoolResponse { container: moved.container, refused, snapshot: seen.into(), ..Default::default() }
}

/// A pool as it is told.
pub(super) fn pool(seen: Seen) -> proto::Pool {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let host = seen.host;
    proto::Pool {
        path: path(seen.path),
        kind: seen.kind.to_owned(),
        source: seen.source.map(path).unwrap_or_default(),
        size: seen.size,
        used: seen.used,
        free: seen.free,
        allocated: host.map_or(0, |host| host.allocated),
        host_free: host.map_or(0, |host| host.free),
        reserve: host.map_or(0, |host| host.reserve),
        refuses: seen.refuses.unwrap_or_default(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_request_names_one_pool() {
        let request = |size, device: &str, path: &str| CreatePoolRequest {
            size,
            device: device.into(),
            path: path.into(),
            ..Default::default()
        };
        for (asked, made) in [
            (request(0, "", ""), Make::Image(None)),
            (request(7, "", ""), Make::Image(Some(7))),
            (request(0, "/dev/vdb", ""), Make::Device("/dev/vdb".into())),
            (request(0, "", "/srv"), Make::Directory("/srv".into())),
        ] {
            assert_eq!(make(asked).unwrap(), made);
        }
        for wrong in
            [request(7, "/dev/vdb", ""), request(0, "/d", "/p"), request(0, "vdb", ""), request(0, "", "x")]
        {
            make(wrong).unwrap_err();
        }
    }
}
