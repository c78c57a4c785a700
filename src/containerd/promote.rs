//! Promote: the container that a fork was made from takes the fork's content.
//!
//! ```text
//! origin  ●───────────────────────────────► stopped ── replaced ── started ──►
//!          ╲ fork                                      ▲
//! fork      ●──────────── its state is taken ──────────┘ ─────────────────────►  it runs on
//! ```
//!
//! The origin has changed since where its row is not the one any more that the fork continues, or where
//! something in its own layer is newer than the moment that the fork's state was taken in.

use std::time::Instant;

use serde_json::json;

use super::captured::Captured;
use super::rollback::Owner;
use super::state::Taking;
use super::swap::{Content, Keeping, Swap};
use super::{Brancher, Holder, Options, Rolled, Target, blocking, containers, request};
use crate::error::{Error, Result};
use crate::snapshot::{Keep, key};
use crate::store::{Id, Kind, OperationKind, Snapshot, Time};

/// How many paths a refusal names.
const NAMED: usize = 10;

impl Brancher {
    /// Makes the content of the fork that `reference` means the content of the container it was forked from.
    /// What that had is kept as a snapshot, named by the options, unless it is discarded; the fork stays.
    /// `if_unchanged` refuses where the source has written since the fork, and names paths. Answers the
    /// operation too.
    pub async fn promote(
        &self,
        target: &Target,
        reference: &str,
        discard: bool,
        if_unchanged: bool,
        options: Options,
    ) -> Result<(Id, Rolled)> {
        let begun = Instant::now();
        let more = json!({ "discard": discard, "if_unchanged": if_unchanged });
        let ask = request::ask(OperationKind::Promote, target, reference, &options, &more)?;
        let promoted = self.operations.run(ask, async |work| {
            work.step("resolve")?;
            let fork = self.container(target, reference).await?;
            self.recover_in(&fork.client).await?;
            let row = self.writable(&fork).await?;
            let origin = self.origin(&fork, &row).await?;
            let target = self.writable(&origin).await?;
            let keeping = Keeping::of(self, &origin, discard, &options).await?;
            let since = if if_unchanged { Some(self.forked(&row, &origin, &target).await?) } else { None };
            self.unchanged(&origin, &target, since).await?;
            work.step("state")?;
            let taking = Taking::asked(Keep::ForOne, &work, &options);
            let (state, _) = self.take(row.id, taking, Some(&fork)).await?;
            let content = Content { state: state.id, source: row.id };
            let no_start = options.no_start;
            let swap = Swap { begun, holder: &origin, target: &target, content, keeping, no_start };
            // Until it has stopped, the origin may write.
            let settled = async || self.unchanged(&origin, &target, since).await;
            let swapped = self.swap(&work, swap, settled).await;
            self.release(state.id).await;
            swapped
        });
        promoted.await
    }

    /// The container that a fork was made from.
    async fn origin(&self, fork: &Holder, row: &Snapshot) -> Result<Holder> {
        let Holder { client, container } = fork;
        let name = containers::display_name(container);
        let refused = |why: String| Error::precondition(format!("container {name:?}"), why);
        let history = self.history(row.id).await?;
        let own = Owner { namespace: &client.target().namespace, container: &container.id };
        let Some(from) = forked_from(&history, own)? else {
            return Err(refused(
                "it was forked from no container; only a fork can be promoted, and `loom rollback` takes a \
                 container back to a snapshot"
                    .to_owned(),
            ));
        };
        let (namespace, id) = match &from {
            Whose::Container(namespace, id) | Whose::Snapshot(namespace, id) => (namespace, id),
        };
        let client = client.of(&Target { namespace: namespace.clone(), ..client.target().clone() })?;
        let found = match &from {
            Whose::Container(_, id) => containers::get(&client, id).await?,
            Whose::Snapshot(_, key) => containers::of_snapshot(&client, key).await?,
        };
        let Some(container) = found else {
            return Err(refused(format!(
                "container {namespace}/{id}, which it was forked from, is gone; use the fork in its place"
            )));
        };
        Ok(Holder { client, container })
    }

    /// The moment that the fork's history left the origin's; refused where the origin has another content since.
    async fn forked(&self, row: &Snapshot, origin: &Holder, target: &Snapshot) -> Result<Time> {
        let history = self.history(row.id).await?;
        let why = match behind(&history, target.id) {
            None => "it was rolled back or promoted to since the fork was made",
            Some(Snapshot { taken: Some(moment), .. }) => return Ok(*moment),
            Some(_) => "when the fork was made of it is not known",
        };
        Err(Error::precondition(
            format!("container {:?}", containers::display_name(&origin.container)),
            format!("{why}; promote without --if-unchanged, and what it has is kept as a snapshot"),
        ))
    }

    /// Refuses where the origin has written behind this moment.
    async fn unchanged(&self, origin: &Holder, target: &Snapshot, since: Option<Time>) -> Result<()> {
        let Some(since) = since else { return Ok(()) };
        let id = target.id;
        // One more tells whether there are more.
        let changed = blocking(&self.core, move |core| core.changed_since(id, since, NAMED + 1)).await?;
        if changed.is_empty() {
            return Ok(());
        }
        Err(Error::precondition(
            format!("container {:?}", containers::display_name(&origin.container)),
            format!(
                "it has changed since the fork was made: {}; promote without --if-unchanged, and what it has is \
                 kept as a snapshot",
                listed(&changed)
            ),
        ))
    }
}

/// What a fork was made from, and its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    /// A container, by its id.
    Container(String, String),
    /// The container that has a live snapshot, by that one's key.
    Snapshot(String, String),
}

/// What the fork with this history was made from. States of its own, and what forks of it gave it, tell nothing
/// of that: where its row says that it is itself, its origin lies behind the last of those.
fn forked_from(history: &[Snapshot], own: Owner<'_>) -> Result<Option<Whose>> {
    // What was branched from nothing begins a lineage.
    if history.first().is_none_or(|first| first.source.is_none()) {
        return Ok(None);
    }
    let own_last = history
        .first()
        .filter(|first| own.has(first))
        .and_then(|_| history.iter().rposition(|row| own.has(row)));
    let others = history.iter().enumerate().skip(own_last.map_or(0, |last| last + 1));
    for (at, row) in others.filter(|(_, row)| !own.has(row)) {
        let key = row.key.as_deref().and_then(key::parts);
        if let Some((namespace, key)) = key.filter(|_| at > 0 && row.kind == Kind::Active) {
            return Ok(Some(Whose::Snapshot(namespace.to_owned(), key.to_owned())));
        }
        if let Some(json) = &row.captured {
            let captured = Captured::from_json(&row.title(), json)?;
            return Ok(Some(Whose::Container(captured.namespace, captured.id)));
        }
    }
    Ok(None)
}

/// The row of a history that continues `origin`; none where it does not go over that.
fn behind(history: &[Snapshot], origin: Id) -> Option<&Snapshot> {
    let at = history.iter().position(|row| row.id == origin)?;
    history.get(at.checked_sub(1)?)
}

/// Paths for people, all of them or the first ones.
fn listed(paths: &[String]) -> String {
    let shown = paths.iter().take(NAMED).map(|path| format!("{:?}", format!("/{path}")));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        text.push_str(" and more");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::rollback::tests::row;
    use super::*;

    const FORK: Owner<'_> = Owner { namespace: "ci", container: "fork" };

    fn from(history: &[&Snapshot]) -> Option<Whose> {
        let history: Vec<_> = history.iter().map(|row| (*row).clone()).collect();
        forked_from(&history, FORK).unwrap()
    }

    /// A live row with a key.
    fn live(key: &str, source: Option<&Snapshot>, of: Option<&str>) -> Snapshot {
        Snapshot { key: Some(format!("ci/7/{key}")), ..row(Kind::Active, source, of) }
    }

    #[test]
    fn a_fork_knows_what_it_was_made_of() {
        let web = live("web", None, None);
        let fork = live("fork", Some(&web), Some("web"));
        let container = Some(Whose::Container("ci".into(), "web".into()));
        assert_eq!(from(&[&fork, &web]), container);
        let state = row(Kind::Committed, Some(&web), Some("web"));
        assert_eq!(from(&[&live("fork", Some(&state), Some("web")), &state, &web]), container);
        // Rolled back to a state of its own: its key has moved on.
        let fork = Snapshot { key: None, ..fork };
        let own = row(Kind::Committed, Some(&fork), Some("fork"));
        assert_eq!(from(&[&live("fork", Some(&own), Some("web")), &own, &fork, &web]), container);
        assert_eq!(from(&[&live("fork", Some(&own), Some("fork")), &own, &fork, &web]), container);
        // Pinned, it says that it is itself, and its source is another fork.
        let web = live("web", Some(&own), Some("origin"));
        let pinned = live("fork", Some(&web), Some("fork"));
        assert_eq!(from(&[&pinned, &web]), Some(Whose::Snapshot("ci".into(), "web".into())));
    }

    #[test]
    fn what_is_no_fork_was_made_of_nothing() {
        let web = live("fork", None, None);
        assert_eq!(from(&[]), None);
        assert_eq!(from(&[&web]), None);
        assert_eq!(from(&[&live("fork", None, Some("fork"))]), None);
        // It has the content of its own state, or of a fork of its own.
        let web = Snapshot { key: None, ..web };
        let own = row(Kind::Committed, Some(&web), Some("fork"));
        assert_eq!(from(&[&live("fork", Some(&own), None), &own, &web]), None);
        let child = live("child", Some(&web), Some("fork"));
        assert_eq!(from(&[&live("fork", Some(&child), None), &child]), None);
        // Rolled back to a state of a fork of its own, it is no fork of that.
        let web = Snapshot { captured: own.captured.clone(), ..web };
        let given = row(Kind::Committed, Some(&child), Some("child"));
        assert_eq!(from(&[&live("fork", Some(&given), Some("fork")), &given, &child, &web]), None);
    }

    #[test]
    fn the_moment_of_a_fork_is_that_of_what_continues_the_origin() {
        let web = live("web", None, None);
        let state = Snapshot { taken: Some(Time(5)), ..row(Kind::Committed, Some(&web), Some("web")) };
        let fork = Snapshot { taken: Some(Time(9)), ..live("fork", Some(&state), Some("web")) };
        let history = [fork, state.clone(), web.clone()];
        assert_eq!(behind(&history, web.id), Some(&state));
        assert_eq!(behind(&history, history[0].id), None);
        assert_eq!(behind(&history, Id::random().unwrap()), None);
    }

    #[test]
    fn only_so_many_paths_are_listed() {
        let paths: Vec<_> = (0..=NAMED).map(|n| format!("root/{n}")).collect();
        assert_eq!(listed(&paths[..2]), r#""/root/0", "/root/1""#);
        assert!(!listed(&paths[..NAMED]).contains("more"));
        assert!(listed(&paths).ends_with(r#""/root/9" and more"#));
    }
}
