//! How two states differ.

use rustix::fs::FileType;
use tokio::sync::mpsc::Sender;

use super::{Brancher, Target, blocking, bytes_gone, patch};
use crate::error::{Error, Result};
use crate::layer::{Aspect, Change, ChangeKind, Node};
use crate::snapshot::Snapshots;
use crate::store::{Kind, Layer, Snapshot};

/// A path that differs, and how, where that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub change: Change,
    /// The unified difference of a text file; empty for what is no text, too large, or was not asked for.
    pub patch: String,
}

impl Brancher {
    /// Tells how `to` differs from `from`, path by path; without `to`, how `from` differs from the state that it
    /// was made of ([`Snapshots::made_of`]), of nothing where there is none. What is written to is read as it
    /// is, without a pause. A receiver that is gone ends it.
    pub async fn diff(
        &self,
        target: &Target,
        from: &str,
        to: Option<&str>,
        patch: bool,
        tell: Sender<Difference>,
    ) -> Result<()> {
        let from = self.comparable(target, from).await?;
        let (before, after) = if let Some(to) = to {
            (Some(from), self.comparable(target, to).await?)
        } else {
            let id = from.id;
            (blocking(&self.core, move |core| core.made_of(id)).await?, from)
        };
        blocking(&self.core, move |core| compare(core, before.as_ref(), &after, patch, &tell)).await
    }

    async fn comparable(&self, target: &Target, reference: &str) -> Result<Snapshot> {
        let snapshot = self.find(target, reference).await?;
        if snapshot.kind == Kind::View {
            return Err(Error::WrongKind {
                key: snapshot.title(),
                kind: snapshot.kind,
                needs: "a view has no state of its own; compare its parent",
            });
        }
        Ok(snapshot)
    }
}

fn compare(
    core: &Snapshots,
    before: Option<&Snapshot>,
    after: &Snapshot,
    patch: bool,
    tell: &Sender<Difference>,
) -> Result<()> {
    let held = |state: &Snapshot| core.read_chain(state.id)?.ok_or_else(|| bytes_gone(state));
    let (before, after) = (before.map(held).transpose()?, held(after)?);
    let (before, after) = (before.as_ref().map_or(&[][..], |before| before.layers()), after.layers());
    crate::fault::point("containerd.diff.compare")?;
    let mut gone = false;
    let compared = core.layers().compare(before, after, &mut |change| {
        let patch = if patch { patch_of(core, before, after, &change)? } else { String::new() };
        tell.blocking_send(Difference { change, patch }).map_err(|_| {
            gone = true;
            Error::precondition("the request", "nobody waits for its answer any more")
        })
    });
    if gone { Ok(()) } else { compared }
}

/// The patch of what was a file, or is one, and differs in its bytes.
fn patch_of(core: &Snapshots, before: &[Layer], after: &[Layer], change: &Change) -> Result<String> {
    let bytes_differ = match change.kind {
        ChangeKind::Added | ChangeKind::Deleted => true,
        ChangeKind::Modified => {
            change.differs.iter().any(|aspect| matches!(aspect, Aspect::Content | Aspect::Type))
        }
    };
    let is_file = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.kind == FileType::RegularFile);
    let (was, is) = (is_file(&change.before), is_file(&change.after));
    if !bytes_differ || !(was || is) {
        return Ok(String::new());
    }
    crate::fault::point("containerd.diff.patch")?;
    let read = |file: bool, chain: &[Layer]| {
        if file { core.layers().read(chain, &change.path, patch::LARGEST) } else { Ok(None) }
    };
    let (old, new) = (read(was, before)?, read(is, after)?);
    if (was && old.is_none()) || (is && new.is_none()) {
        // Too large, or not what it was when it was compared.
        return Ok(String::new());
    }
    Ok(patch::unified(&change.path, old.as_deref(), new.as_deref()))
}
