//! Images and differences: what the admin service asks of the brancher, and how that is told.

use std::sync::Arc;

use futures::stream;
use rustix::fs::FileType;
use tokio::sync::mpsc;
use ttrpc::r#async::ServerStreamSender;

use super::{Admin, request};
use crate::containerd::{Brancher, Committed, Difference, ImageSeen, Target};
use crate::error::Result;
use crate::layer::{Aspect, ChangeKind, Node};
use crate::protos::admin::{
    self as proto, CommitRequest, CommitResponse, DiffRequest, DiffResponse, ImagesRequest, ImagesResponse,
    PortableRequest, PortableResponse, TagRequest, TagResponse,
};
use crate::server::convert::timestamp;
use crate::server::ttrpc::send_all;
use crate::store::Id;

/// Differences that wait for a client that reads slowly.
const WAITING: usize = 100;
/// The largest patch that is told, in bytes: a message may have 4 MiB.
const LARGEST_PATCH: usize = 3 << 20;

impl Admin {
    pub(super) async fn make_image(&self, mut request: CommitRequest) -> ttrpc::Result<CommitResponse> {
        let target = self.target(request.containerd.take());
        let (commit, options) = request::commit(&mut request)?;
        let (at, reference, portable) = (target.clone(), request.reference, request.portable);
        let (id, made) = self
            .branch(|brancher| async move { brancher.commit(&at, &reference, commit, options).await })
            .await?;
        Ok(CommitResponse {
            cost: made.cost.as_ref().map(super::cost).into(),
            image: Some(self.made_image(target, id, made, portable).await?).into(),
            operation: id.to_string(),
            ..Default::default()
        })
    }

    pub(super) async fn make_portable(&self, request: PortableRequest) -> ttrpc::Result<PortableResponse> {
        let target = self.target(request.containerd.into_option());
        let options = request::only(request.options.into_option())?;
        let compression = request::compression(request.compression)?;
        let (at, image) = (target.clone(), request.image);
        let (id, made) = self
            .branch(|brancher| async move { brancher.portable(&at, &image, compression, options).await })
            .await?;
        let (layer, layer_size) = made.layer.unwrap_or_default();
        Ok(PortableResponse {
            image: Some(self.made_image(target, id, made.image, true).await?).into(),
            layer,
            layer_size,
            operation: id.to_string(),
            ..Default::default()
        })
    }

    pub(super) async fn all_images(
        &self,
        request: ImagesRequest,
        sender: &ServerStreamSender<ImagesResponse>,
    ) -> ttrpc::Result<()> {
        let target = self.target(request.containerd.into_option());
        let images = self.branch(|brancher| async move { brancher.images(&target).await }).await?;
        let answer = |images| ImagesResponse { images, ..Default::default() };
        send_all(sender, stream::iter(images.into_iter().map(image).map(Ok)), answer).await
    }

    pub(super) async fn tag_image(&self, request: TagRequest) -> ttrpc::Result<TagResponse> {
        let target = self.target(request.containerd.into_option());
        let (from, name) = (request.image, request.name);
        let tagged = self.branch(|brancher| async move { brancher.tag(&target, &from, &name).await }).await?;
        Ok(TagResponse { image: Some(image(tagged)).into(), ..Default::default() })
    }

    pub(super) async fn compare(
        &self,
        request: DiffRequest,
        sender: &ServerStreamSender<DiffResponse>,
    ) -> ttrpc::Result<()> {
        let target = self.target(request.containerd.into_option());
        let (from, to, patch) = (request.from, request::some(request.to), request.patch);
        let (tell, told) = mpsc::channel(WAITING);
        let compared = self.branch(|brancher: Arc<Brancher>| async move {
            brancher.diff(&target, &from, to.as_deref(), patch, tell).await
        });
        let changes = stream::unfold(told, |mut told| async { told.recv().await.map(|one| (one, told)) });
        let changes = futures::StreamExt::map(changes, |one| Ok(change(one)));
        let answer = |changes| DiffResponse { changes, ..Default::default() };
        // Whoever reads slowly is waited for; who has gone ends the comparison.
        let (compared, sent) = tokio::join!(compared, send_all(sender, changes, answer));
        compared?;
        sent
    }

    /// An image that an operation made. One that is gone since was made all the same.
    pub(super) async fn made_image(
        &self,
        target: Target,
        by: Id,
        made: Committed,
        portable: bool,
    ) -> Result<proto::Image> {
        // The reference of the request may have named another namespace.
        let namespace = self.tracked(move |operations| operations.get(&by.to_string())).await?.namespace;
        let target = Target { namespace, ..target };
        let (at, name) = (target.clone(), made.image.clone());
        match self.branch(|brancher| async move { brancher.image(&at, &name).await }).await {
            Ok(seen) if seen.digest == made.digest => Ok(image(seen)),
            _ => Ok(bare(made, target.namespace, portable)),
        }
    }
}

/// An image.
fn image(seen: ImageSeen) -> proto::Image {
    proto::Image {
        name: seen.name,
        digest: seen.digest,
        chain_id: seen.chain_id,
        snapshot: seen.snapshot.to_string(),
        portable: seen.portable,
        created: timestamp(seen.created),
        size: seen.size,
        platform: seen.platform,
        namespace: seen.namespace,
        ..Default::default()
    }
}

/// What is known of an image that is not there any more.
fn bare(made: Committed, namespace: String, portable: bool) -> proto::Image {
    proto::Image {
        name: made.image,
        digest: made.digest,
        chain_id: made.chain_id,
        snapshot: made.snapshot.to_string(),
        portable,
        namespace,
        ..Default::default()
    }
}

/// A path that differs.
fn change(told: Difference) -> proto::Change {
    let Difference { change, mut patch } = told;
    let kind = match change.kind {
        ChangeKind::Added => proto::ChangeKind::CHANGE_KIND_ADDED,
        ChangeKind::Modified => proto::ChangeKind::CHANGE_KIND_MODIFIED,
        ChangeKind::Deleted => proto::ChangeKind::CHANGE_KIND_DELETED,
    };
    if patch.len() > LARGEST_PATCH {
        patch.clear();
    }
    proto::Change {
        path: change.path.to_string_lossy().into_owned(),
        kind: kind.into(),
        before: change.before.map(node).into(),
        after: change.after.map(node).into(),
        differs: change.differs.into_iter().map(|aspect| word(aspect).to_owned()).collect(),
        patch,
        ..Default::default()
    }
}

/// What is at a path.
fn node(node: Node) -> proto::Node {
    let kind = match node.kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::Unknown => "unknown",
    };
    proto::Node {
        type_: kind.to_owned(),
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        size: node.size,
        target: node.target.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default(),
        ..Default::default()
    }
}

/// The word for what of a path differs.
fn word(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Type => "type",
        Aspect::Content => "content",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Xattrs => "xattrs",
        Aspect::Target => "target",
        Aspect::Device => "device",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::layer::Change;

    #[test]
    fn a_message_tells_all_of_a_change() {
        let file = Node { kind: FileType::RegularFile, mode: 0o4755, uid: 1, gid: 2, size: 3, target: None };
        let link = Node { kind: FileType::Symlink, target: Some("to".into()), ..file.clone() };
        let differs = vec![Aspect::Type, Aspect::Content, Aspect::Mode, Aspect::Owner, Aspect::Xattrs];
        let modified = Difference {
            change: Change {
                path: PathBuf::from("etc/motd"),
                kind: ChangeKind::Modified,
                before: Some(file),
                after: Some(link),
                differs: [differs, vec![Aspect::Target, Aspect::Device]].concat(),
            },
            patch: "@@".into(),
        };
        let told = change(modified.clone());
        assert_eq!((told.path.as_str(), told.patch.as_str()), ("etc/motd", "@@"));
        assert_eq!(told.kind.enum_value(), Ok(proto::ChangeKind::CHANGE_KIND_MODIFIED));
        assert_eq!((told.before.type_.as_str(), told.before.mode, told.before.size), ("file", 0o4755, 3));
        assert_eq!((told.after.type_.as_str(), told.after.target.as_str()), ("symlink", "to"));
        assert_eq!(told.differs, ["type", "content", "mode", "owner", "xattrs", "target", "device"]);

        let large = Difference { patch: "x".repeat(LARGEST_PATCH + 1), ..modified };
        assert_eq!(change(large).patch, "", "no message may have it");
    }
}
