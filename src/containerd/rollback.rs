//! Rollback: a container's content becomes a committed snapshot's of its own lineage.
//!
//! ```text
//! check ── plan written ── stop, where it runs ── the core's replace ── start, where it ran ── succeeded
//!                └── a crash: started again as it was ──┘└── a crash: started with its new content ──┘
//! ```
//!
//! Of a container's lineage is every state of its own, of what it was forked from, and of what was forked from
//! it; and what it began as, its image's content. That two containers have an image in common makes neither a
//! relative of the other.

use std::time::Instant;

use serde_json::json;

use super::captured::Captured;
use super::swap::{Content, Keeping, Swap};
use super::{Brancher, Holder, Options, Rolled, Target, blocking, bytes_gone, containers, request};
use crate::error::{Error, Result};
use crate::store::{Id, Kind, OperationKind, Snapshot};

/// What a rollback needs, for one who names something else.
const GONE_BACK_TO: &str = "a rollback needs a committed one; make one with `loom snapshot`";

impl Brancher {
    /// Makes the content of a container that of `snapshot`. What it had is kept as a snapshot, named by the
    /// options, unless it is discarded. A container that ran is stopped and started again. Answers the
    /// operation too.
    pub async fn rollback(
        &self,
        target: &Target,
        reference: &str,
        snapshot: &str,
        discard: bool,
        options: Options,
    ) -> Result<(Id, Rolled)> {
        let begun = Instant::now();
        let more = json!({ "snapshot": snapshot, "discard": discard });
        let ask = request::ask(OperationKind::Rollback, target, reference, &options, &more)?;
        let rolled = self.operations.run(ask, async |work| {
            work.step("resolve")?;
            let holder = self.container(target, reference).await?;
            self.recover_in(&holder.client).await?;
            let row = self.writable(&holder).await?;
            let state = self.committed(target, snapshot, GONE_BACK_TO).await?;
            if state.layer.is_none() {
                return Err(bytes_gone(&state));
            }
            self.related(&holder, &row, &state).await?;
            let keeping = Keeping::of(self, &holder, discard, &options).await?;
            let content = Content { state: state.id, source: state.id };
            let no_start = options.no_start;
            let swap = Swap { begun, holder: &holder, target: &row, content, keeping, no_start };
            self.swap(&work, swap, async || Ok(())).await
        });
        rolled.await
    }

    /// A container's snapshot, where it is one whose content can be replaced.
    pub(super) async fn writable(&self, holder: &Holder) -> Result<Snapshot> {
        let row = self.of_container(holder).await?;
        if row.kind == Kind::Active {
            return Ok(row);
        }
        Err(Error::WrongKind {
            key: row.title(),
            kind: row.kind,
            needs: "only the content of an active one can be replaced",
        })
    }

    /// What a snapshot continues, itself first, down to what was made of an image.
    pub(super) async fn history(&self, id: Id) -> Result<Vec<Snapshot>> {
        let path = blocking(&self.core, move |core| core.lineage(id)).await?;
        Ok(history(path.into_iter().map(|seen| seen.snapshot).collect()))
    }

    /// Refuses a state of somebody else's lineage.
    async fn related(&self, holder: &Holder, row: &Snapshot, state: &Snapshot) -> Result<()> {
        let own = Owner { namespace: &holder.client.target().namespace, container: &holder.container.id };
        let (mine, theirs) = (self.history(row.id).await?, self.history(state.id).await?);
        if row.parent == Some(state.id) || own.has(state) || meet(&mine, &theirs) {
            return Ok(());
        }
        let whose = match state.captured.as_deref().map(|json| Captured::from_json(&state.title(), json)) {
            Some(Ok(captured)) => format!("a state of container {}/{}", captured.namespace, captured.id),
            Some(Err(_)) | None => "no state of a container".to_owned(),
        };
        Err(Error::precondition(
            format!("snapshot {:?}", state.title()),
            format!(
                "it is {whose}, and not of the lineage of container {:?}; `loom clone {}` makes a container of it",
                containers::display_name(&holder.container),
                state.title(),
            ),
        ))
    }
}

/// Whose a state may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    /// containerd's namespace.
    pub(super) namespace: &'a str,
    /// The container's id.
    pub(super) container: &'a str,
}

impl Owner<'_> {
    /// True where a snapshot was captured as a state of this container.
    pub(super) fn has(self, state: &Snapshot) -> bool {
        let captured = state.captured.as_deref().map(|json| Captured::from_json("", json));
        captured.is_some_and(|captured| {
            captured
                .is_ok_and(|it| (it.namespace.as_str(), it.id.as_str()) == (self.namespace, self.container))
        })
    }
}

/// Cuts a path of sources and parents where it goes over into an image: rows that follow from each other.
fn history(path: Vec<Snapshot>) -> Vec<Snapshot> {
    let mut history = Vec::new();
    for row in path {
        if is_of_an_image(&row) {
            break;
        }
        let last = row.source.is_none();
        history.push(row);
        if last {
            break;
        }
    }
    history
}

/// True for what is branched from nothing and is no state of a container: an unpacked layer, or an image that
/// somebody has committed.
fn is_of_an_image(row: &Snapshot) -> bool {
    row.kind == Kind::Committed && row.source.is_none() && row.captured.is_none() && !row.held()
}

/// True where two histories have a row in common.
fn meet(one: &[Snapshot], other: &[Snapshot]) -> bool {
    one.iter().any(|row| other.iter().any(|theirs| theirs.id == row.id))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::store::Time;

    /// A row that continues `source`: a state of the container `of`, or a live one.
    pub(crate) fn row(kind: Kind, source: Option<&Snapshot>, of: Option<&str>) -> Snapshot {
        let captured = |id| {
            json!({"namespace": "ci", "id": id, "image": "", "runtime": null, "snapshotter": "loom",
                   "labels": {}, "spec": {}})
        };
        Snapshot {
            id: Id::random().unwrap(),
            key: None,
            name: None,
            kind,
            parent: None,
            source: source.map(|source| source.id),
            layer: None,
            pinned: false,
            transient: false,
            labels: BTreeMap::new(),
            created: Time(0),
            updated: Time(0),
            captured: of.map(|id| captured(id).to_string()),
            operation: None,
            expires: None,
            taken: None,
        }
    }

    /// The path of each from its last row.
    fn path(rows: &[&Snapshot]) -> Vec<Snapshot> {
        history(rows.iter().map(|row| (*row).clone()).collect())
    }

    #[test]
    fn an_image_makes_no_relatives() {
        let image = row(Kind::Committed, None, None);
        let [web, db] = [row(Kind::Active, None, None), row(Kind::Active, None, None)];
        assert_eq!(path(&[&web, &image]).len(), 1);
        assert!(!meet(&path(&[&web, &image]), &path(&[&db, &image])));
        // Nor where both were taken back to what they began as.
        let [web, db] = [row(Kind::Active, Some(&image), None), row(Kind::Active, Some(&image), None)];
        assert!(!meet(&path(&[&web, &image]), &path(&[&db, &image])));
        assert!(meet(&path(&[&web]), &path(&[&web])));
    }

    #[test]
    fn states_ancestors_and_descendants_are_relatives() {
        let image = row(Kind::Committed, None, None);
        let web = row(Kind::Active, None, None);
        let state = row(Kind::Committed, Some(&web), Some("web"));
        let later = row(Kind::Committed, Some(&web), Some("web"));
        let fork = row(Kind::Active, Some(&state), Some("web"));
        let of_fork = row(Kind::Committed, Some(&fork), Some("fork"));
        let of_web = path(&[&web, &image]);
        let of_state = path(&[&state, &web, &image]);
        let of_later = path(&[&later, &web, &image]);
        let forked = path(&[&fork, &state, &web, &image]);
        let of_fork = path(&[&of_fork, &fork, &state, &web, &image]);
        for (container, snapshot) in
            [(&of_web, &of_state), (&of_web, &of_fork), (&forked, &of_state), (&forked, &of_later)]
        {
            assert!(meet(container, snapshot));
        }
        // A container that had been rolled back, and whose row was kept by then.
        let kept = Snapshot { kind: Kind::Committed, captured: state.captured.clone(), ..web.clone() };
        let now = row(Kind::Active, Some(&state), None);
        assert!(meet(&path(&[&now, &state, &kept, &image]), &path(&[&kept, &image])));
    }

    #[test]
    fn a_state_is_whose_it_was_captured_of() {
        let state = row(Kind::Committed, None, Some("web"));
        let owner = |namespace, container| Owner { namespace, container };
        assert!(owner("ci", "web").has(&state));
        assert!(!owner("default", "web").has(&state));
        assert!(!owner("ci", "db").has(&state));
        assert!(!owner("ci", "web").has(&row(Kind::Committed, None, None)));
        let broken = Snapshot { captured: Some("{".into()), ..state };
        assert!(!owner("ci", "web").has(&broken));
    }
}
