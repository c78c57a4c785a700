//! Its images and differences, and how it takes an archive.

use protobuf::MessageField;
use ttrpc::Code;
use ttrpc::r#async::ServerStream;

use super::{Fake, at, before, refuse};
use crate::protos::admin::*;

/// The image of a name; one that is called `portable` is.
pub(super) fn image(name: &str) -> MessageField<Image> {
    MessageField::some(Image {
        name: format!("registry.example.com/{name}"),
        digest: format!("sha256:{}", "d".repeat(64)),
        chain_id: format!("sha256:{}", "c".repeat(64)),
        snapshot: before().id,
        portable: name.starts_with("portable"),
        created: at(1_700_000_000, 0),
        size: 12_345_678,
        platform: "linux/amd64".into(),
        namespace: "default".into(),
        ..Default::default()
    })
}

/// What differs: one of each.
pub(super) fn changes() -> Vec<Change> {
    let file = |mode, size| Node { type_: "file".into(), mode, size, ..Default::default() };
    let change = |path: &str, kind: ChangeKind, before: Option<Node>, after: Option<Node>| Change {
        path: path.into(),
        kind: kind.into(),
        before: before.into(),
        after: after.into(),
        ..Default::default()
    };
    let modified = ChangeKind::CHANGE_KIND_MODIFIED;
    vec![
        change("bin/new", ChangeKind::CHANGE_KIND_ADDED, None, Some(file(0o755, 2_000))),
        Change {
            differs: vec!["mode".into(), "content".into()],
            ..change("etc/motd", modified, Some(file(0o644, 12_000)), Some(file(0o755, 15_000)))
        },
        change("old", ChangeKind::CHANGE_KIND_DELETED, Some(file(0o600, 7)), None),
    ]
}

/// How the text file of them differs.
pub(in crate::cli::tests) const PATCH: &str = "--- a/etc/motd\n+++ b/etc/motd\n@@ -1 +1 @@\n-old\n+new\n";

/// What an export of anything sends first; `broken` ends behind it.
pub(in crate::cli::tests) const ARCHIVE: &[u8] = b"first second";

/// Takes an archive, part by part.
pub(super) async fn import(
    fake: &Fake,
    stream: &mut ServerStream<ImportResponse, ImportRequest>,
) -> ttrpc::Result<()> {
    let to = stream.recv().await?.unwrap_or_default().to;
    if to.image == "taken" {
        return refuse(Code::ALREADY_EXISTS, "image \"taken\" already exists");
    }
    let mut archive = Vec::new();
    loop {
        let answer = ImportResponse { received: archive.len() as u64, ..Default::default() };
        // Answers come of themselves too.
        stream.send(&answer).await?;
        stream.send(&answer).await?;
        if to.image == "slow" {
            fake.stall(&to.options.operation).await;
            return refuse(Code::ABORTED, "operation was cancelled; what it had made was undone");
        }
        // The same request was carried out before: nothing of the archive is wanted, or no more of it.
        if to.image == "before" || to.image == "again" && !archive.is_empty() {
            break;
        }
        let Some(part) = stream.recv().await? else {
            return refuse(Code::ABORTED, "the archive was cut off");
        };
        if part.offset != answer.received {
            return refuse(Code::INVALID_ARGUMENT, "out of order");
        }
        archive.extend(part.data);
        if part.end {
            break;
        }
    }
    let mut image = image(&to.image);
    image.mut_or_insert_default().size = archive.len() as u64;
    let answer = ImportResponse { image, operation: "3".repeat(32), ..Default::default() };
    stream.send(&answer).await
}
