//! The database against directories, `layer.json`, subvolumes and mount tables.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::path::PathBuf;

use super::{Case, Code, Fix};
use crate::error::Result;
use crate::layer::{Layers, Manifest, Mounted, Role, Seal, Told};
use crate::snapshot::tell;
use crate::store::{Home, Id, Kind, Layer, LayerId, Snapshot, Stage, Store};

/// Everything that is compared.
struct Look<'a> {
    store: &'a Store,
    layers: &'a Layers,
    /// A loomd serves: what requests under way have made has no row yet.
    running: bool,
    snapshots: Vec<Snapshot>,
    rows: BTreeMap<LayerId, Layer>,
    found: BTreeMap<(LayerId, &'static str), (Home, Seal)>,
    mounts: Vec<Mounted>,
    /// What directories without rows say that they are stacked on; `None` where one of them cannot say it.
    below_unknown: BTreeSet<Option<LayerId>>,
    cases: Vec<Case>,
}

/// Compares once.
pub(super) fn look(store: &Store, layers: &Layers, running: bool) -> Result<Vec<Case>> {
    crate::fault::point("check.look")?;
    let (snapshots, rows) = store.read(|rows| Ok((rows.snapshots()?, rows.layers()?)))?;
    let home = |home| if home == Home::Plain { "plain" } else { "pool" };
    let found = layers.found()?;
    let mut look = Look {
        store,
        layers,
        running,
        snapshots,
        rows: rows.into_iter().map(|layer| (layer.id, layer)).collect(),
        found: found.into_iter().map(|one| ((one.id, home(one.home)), (one.home, one.seal))).collect(),
        mounts: layers.mounted_layers()?,
        below_unknown: BTreeSet::new(),
        cases: Vec::new(),
    };
    look.directories();
    look.layers()?;
    look.snapshots();
    look.circles();
    look.strays()?;
    look.mounts();
    if !running {
        look.trash()?;
    }
    Ok(look.cases)
}

impl Look<'_> {
    /// Directories that no row knows.
    fn directories(&mut self) {
        let mut cases = Vec::new();
        for (&(id, _), &(home, seal)) in &self.found {
            let known = self.rows.get(&id).is_some_and(|row| row.home == home);
            // A request under way may be filling it. Once it is sealed its row is there within the time between looks.
            let filling = || self.running && seal != Seal::Own && self.layers.gave(id);
            if known || filling() {
                continue;
            }
            let (what, path) = (self.called(home, id), self.directory(home, id));
            let case = if seal == Seal::Own {
                let said = self.layers.manifest(home, id).ok();
                match &said {
                    Some(said) => self.below_unknown.extend(said.base.map(|base| Some(LayerId(base)))),
                    None => _ = self.below_unknown.insert(None),
                }
                let whose = said.map(|manifest| titles(&manifest));
                Case::told(
                    Code::LayerLost,
                    what,
                    format!(
                        "no row knows it, and it holds committed bytes{}. Put the loom.db back that belongs to it, \
                         or stop loomd and run `loom check --root {} --rebuild`, which makes one anew",
                        whose.map(|whose| format!(" of {whose}")).unwrap_or_default(),
                        self.layers.root().display()
                    ),
                )
            } else {
                let code = if home == Home::Pool { Code::SubvolumeLeaked } else { Code::LayerUnknown };
                let message = "no row knows it, and nobody was told that its bytes are kept";
                match self.mounted_at(home, id) {
                    Some(mount) => {
                        Case::told(code, what, format!("{message}, but it is mounted at {mount}; unmount it"))
                    }
                    None => Case::fixed_by(Fix::Discard(home, id), code, what, message),
                }
            };
            cases.push(case.weighed(path));
        }
        self.cases.extend(cases);
    }

    /// Rows of layers against their directories and against each other.
    fn layers(&mut self) -> Result<()> {
        let mut cases = Vec::new();
        let standing = self.standing();
        let renamed: HashSet<LayerId> = self.rows.values().filter_map(|row| row.was).collect();
        let replaced: HashSet<LayerId> =
            self.rows.values().flat_map(|row| row.instead_of.iter().copied()).collect();
        // What is being filled or removed is a request's, and a start puts it right.
        let rows = self.rows.values().filter(|row| !matches!(row.stage, Stage::Filling | Stage::Doomed));
        for row in rows {
            let what = self.called(row.home, row.id);
            let upon = standing.get(&row.id).map(Vec::as_slice).unwrap_or_default();
            if let Some(base) = row.base.filter(|base| !self.rows.contains_key(base)) {
                let message = format!(
                    "it is stacked on layer {base}, which has no row; {}",
                    if self.exists(base) { "a rebuild finds that one's" } else { "it cannot be mounted" }
                );
                cases.push(Case::told(Code::RowMissing, &what, message));
            }
            let writers: Vec<_> = self
                .snapshots
                .iter()
                .filter(|one| one.layer == Some(row.id) && one.kind == Kind::Active)
                .map(Snapshot::title)
                .collect();
            if row.stage == Stage::Writable && writers.len() > 1 {
                let message = format!("{} all write to it; remove all but one of them", writers.join(", "));
                cases.push(Case::told(Code::LayerShared, &what, message));
            }
            // Its directory may have another's name, as it was being sealed.
            if renamed.contains(&row.id) {
                continue;
            }
            let Some((_, seal)) = self.found.get(&(row.id, word(row.home))) else {
                cases.push(Self::missing(row, what, upon));
                continue;
            };
            // What has the place of one is there: loomd ends that one by itself.
            let replaced = replaced.contains(&row.id);
            cases.extend(match (row.stage, seal) {
                (Stage::Sealed, Seal::Absent | Seal::Copied) => {
                    let message = "it is sealed, and has no layer.json of its own: a lost database could not be made \
                                   anew with it. The rows know what it says";
                    Some(Case::fixed_by(Fix::Tell(row.id), Code::ManifestMissing, &what, message))
                }
                (Stage::Sealed, Seal::Own) if replaced || upon.is_empty() => None,
                (Stage::Sealed, Seal::Own) => self.manifest(row, &what)?,
                (Stage::Writable, Seal::Own | Seal::Copied) if self.running => {
                    let message = "it is written to, and has a layer.json; restart loomd, which takes that away";
                    Some(Case::told(Code::SealUnfinished, &what, message))
                }
                (Stage::Writable, Seal::Own | Seal::Copied) => {
                    let message = "a commit of it was cut off, and never answered; a start of loomd undoes it";
                    Some(Case::fixed_by(Fix::Unseal(row.id), Code::SealUnfinished, &what, message))
                }
                _ => None,
            });
            if upon.is_empty() && !replaced {
                let path = self.directory(row.home, row.id);
                cases.push(self.unused(row, what)?.weighed(path));
            }
        }
        self.cases.extend(cases);
        Ok(())
    }

    /// A row without its directory.
    fn missing(row: &Layer, what: String, upon: &[String]) -> Case {
        if upon.is_empty() {
            let message = "its directory is not there, and nothing stands on it";
            return Case::fixed_by(Fix::Forget(row.id), Code::LayerMissing, what, message);
        }
        let message = format!(
            "its directory is not there, and {} cannot be mounted without it. Put it back from a backup, or remove \
             what stands on it",
            few(upon)
        );
        Case::told(Code::LayerMissing, what, message)
    }

    /// A layer on which nothing stands: removals take it away with the last thing that did.
    fn unused(&self, row: &Layer, what: String) -> Result<Case> {
        let manifest = match row.stage {
            Stage::Sealed => self.layers.manifest(row.home, row.id).ok(),
            _ => self.layers.noted(row.home, row.id)?.filter(|note| note.layer == row.id.0),
        };
        let nobody = manifest.as_ref().is_some_and(|manifest| manifest.snapshot.id.is_empty());
        let needed = self.below_unknown.contains(&Some(row.id)) || self.below_unknown.contains(&None);
        if needed {
            let message = "no row stands on it, and a layer whose row was lost is stacked on it; --rebuild finds that one";
            return Ok(Case::told(Code::LayerUnused, what, message));
        }
        if nobody && self.mounted_at(row.home, row.id).is_none() {
            let message = "no snapshot and no layer stands on it, and it says itself that nobody's it is";
            return Ok(Case::fixed_by(Fix::Discard(row.home, row.id), Code::LayerUnused, what, message));
        }
        let message = format!(
            "nothing stands on it, though it was {}: a row was lost. Put the loom.db back that belongs to it, or stop \
             loomd and run `loom check --root {} --rebuild`",
            manifest.map_or_else(|| "somebody's".to_owned(), |manifest| titles(&manifest)),
            self.layers.root().display()
        );
        Ok(Case::told(Code::LayerUnused, what, message))
    }

    /// What a sealed layer says against the rows.
    fn manifest(&self, row: &Layer, what: &str) -> Result<Option<Case>> {
        let said = match self.layers.manifest(row.home, row.id) {
            Ok(said) => said,
            Err(error) => {
                let message = format!("{error}. The rows know what it says");
                return Ok(Some(Case::fixed_by(Fix::Tell(row.id), Code::ManifestUnreadable, what, message)));
            }
        };
        let (followed, wanted) = self.store.read(|rows| {
            let wanted = tell::telling(rows, row)?;
            Ok((tell::followed(rows, said.clone(), &wanted)?, wanted))
        })?;
        let differs = tell::conflicts(&followed, &wanted);
        if !differs.is_empty() {
            let message = format!(
                "the database says {}, as its layer.json has it. Either may be wrong: a loom.db from a backup that \
                 agrees decides it, and so does --rebuild, which believes every layer.json",
                differs.join(", ")
            );
            return Ok(Some(Case::told(Code::ManifestDiffers, what, message)));
        }
        Ok((!tell::says(&said, &wanted)).then(|| {
            let message = "its layer.json says what was so earlier of the snapshots that stand on it; the rows know better";
            Case::fixed_by(Fix::Tell(row.id), Code::ManifestOld, what, message)
        }))
    }

    /// Snapshots that refer to what is not there.
    fn snapshots(&mut self) {
        let ids: HashSet<Id> = self.snapshots.iter().map(|one| one.id).collect();
        let mut cases = Vec::new();
        for one in &self.snapshots {
            let what = format!("snapshot {}", one.title());
            for (word, id) in [("parent", one.parent), ("source", one.source)] {
                if let Some(id) = id.filter(|id| !ids.contains(id)) {
                    let message = format!(
                        "its {word} {id} has no row; a rebuild finds it where a layer still tells of it"
                    );
                    cases.push(Case::told(Code::RowMissing, &what, message));
                }
            }
            if let Some(layer) = one.layer.filter(|layer| !self.rows.contains_key(layer)) {
                let message = format!(
                    "its layer {layer} has no row; {}",
                    if self.exists(layer) { "a rebuild finds it" } else { "its bytes are gone: remove it" }
                );
                cases.push(Case::told(Code::RowMissing, &what, message));
            }
        }
        self.cases.extend(cases);
    }

    /// Rows that stand on themselves in the end.
    fn circles(&mut self) {
        let bases = self.rows.values().map(|row| (row.id, row.base.into_iter().collect())).collect();
        let above = |one: &Snapshot| (one.id, [one.parent, one.source].into_iter().flatten().collect());
        let lineages = self.snapshots.iter().map(above).collect();
        let message = |circle: String| {
            format!("{circle} stand on each other in a circle; only a rebuild can tell how it was")
        };
        let layers = circular::<LayerId>(&bases);
        if let Some(first) = layers.first() {
            self.cases.push(Case::told(Code::Circle, format!("layer {first}"), message(few(&layers))));
        }
        let snapshots = circular::<Id>(&lineages);
        if let Some(first) = snapshots.first() {
            self.cases.push(Case::told(Code::Circle, format!("snapshot {first}"), message(few(&snapshots))));
        }
    }

    /// What is no layer at all.
    fn strays(&mut self) -> Result<()> {
        for stray in self.layers.strays()? {
            let path = self.layers.place_of(&stray)?;
            let what = path.display().to_string();
            let code = if stray.within.is_some() { Code::SubvolumeNested } else { Code::NameUnknown };
            let told = match (stray.within, stray.kept) {
                (Some(layer), true) => Some(format!(
                    "a subvolume within layer {layer}: no part of it, and an empty directory in its forks. Copy what \
                     is in it to an ordinary directory of the container, and delete it"
                )),
                (None, true) => {
                    Some("loom does not name layers so, and it has a layer.json; move it away".to_owned())
                }
                _ if self.layers.is_mounted(&path)? => {
                    Some("loom makes nothing of this name, but it is mounted; unmount it".to_owned())
                }
                _ => None,
            };
            let case = if let Some(message) = told {
                Case::told(code, what, message)
            } else {
                let message = "loom makes nothing of this name, and refers to none";
                Case::fixed_by(Fix::ThrowAway(stray), code, what, message)
            };
            self.cases.push(case.weighed(path));
        }
        Ok(())
    }

    /// Mounts of what is gone, and two that write to one layer.
    fn mounts(&mut self) {
        let mut writers: BTreeMap<(LayerId, &'static str), BTreeMap<&str, &Mounted>> = BTreeMap::new();
        let mut stale: BTreeMap<(LayerId, &str), &Mounted> = BTreeMap::new();
        for mount in &self.mounts {
            let known = self.rows.get(&mount.layer).is_some_and(|row| row.home == mount.home);
            // A layer is handed out to be mounted when its row is there, which the next look sees.
            if mount.trashed || !known {
                stale.entry((mount.layer, &mount.point)).or_insert(mount);
            }
            if mount.role == Role::Upper {
                writers.entry((mount.layer, word(mount.home))).or_default().insert(&mount.device, mount);
            }
        }
        let mut cases = Vec::new();
        for ((layer, point), mount) in stale {
            let message = format!(
                "it is still a mount of layer {layer}, which was removed, in the mount namespace of process {}; unmount \
                 it, and what is left of the layer goes",
                mount.pid
            );
            cases.push(Case::told(Code::MountStale, point, message));
        }
        for ((layer, _), mounts) in writers.into_iter().filter(|(_, mounts)| mounts.len() > 1) {
            let Some(mount) = mounts.values().next() else { continue };
            let places: Vec<_> =
                mounts.values().map(|mount| format!("{} (process {})", mount.point, mount.pid)).collect();
            let message = format!(
                "{} are two mounts that write to it, which overlayfs does not allow; unmount all but one",
                few(&places)
            );
            cases.push(Case::told(Code::MountShared, self.called(mount.home, layer), message));
        }
        self.cases.extend(cases);
    }

    /// What was removed and is still there: a loomd that runs is at it.
    fn trash(&mut self) -> Result<()> {
        let mounted: BTreeSet<LayerId> = self.mounts.iter().map(|mount| mount.layer).collect();
        for (path, id) in self.layers.trashed()? {
            let what = path.display().to_string();
            let case = if mounted.contains(&id) {
                Case::told(Code::Trash, what, "it was removed, and is still mounted; unmount it")
            } else {
                let message =
                    "it was removed, and its bytes are still there; loomd reclaims them when it runs";
                Case::fixed_by(Fix::Reclaim(id), Code::Trash, what, message)
            };
            self.cases.push(case.weighed(path));
        }
        Ok(())
    }

    /// What stands on each layer.
    fn standing(&self) -> HashMap<LayerId, Vec<String>> {
        let mut standing: HashMap<LayerId, Vec<String>> = HashMap::new();
        for one in &self.snapshots {
            if let Some(layer) = one.layer {
                standing.entry(layer).or_default().push(format!("snapshot {}", one.title()));
            }
        }
        for row in self.rows.values() {
            if let Some(base) = row.base {
                standing.entry(base).or_default().push(format!("layer {}", row.id));
            }
        }
        standing
    }

    fn exists(&self, id: LayerId) -> bool {
        [Home::Plain, Home::Pool].iter().any(|home| self.found.contains_key(&(id, word(*home))))
    }

    fn mounted_at(&self, home: Home, id: LayerId) -> Option<&str> {
        self.mounts.iter().find(|one| one.home == home && one.layer == id).map(|one| &*one.point)
    }

    fn directory(&self, home: Home, id: LayerId) -> PathBuf {
        let mut path = self.layers.fs(home, id);
        path.pop();
        path
    }

    fn called(&self, home: Home, id: LayerId) -> String {
        format!("{home} layer {id} ({})", self.directory(home, id).display())
    }
}

fn word(home: Home) -> &'static str {
    match home {
        Home::Plain => "plain",
        Home::Pool => "pool",
    }
}

/// The snapshots that a manifest tells of.
pub(super) fn all(manifest: &Manifest) -> Vec<&Told> {
    std::iter::once(&manifest.snapshot).chain(&manifest.others).collect()
}

/// What people call the snapshots that a manifest tells of.
pub(super) fn titles(manifest: &Manifest) -> String {
    let title = |told: &Told| {
        let title = told.name.clone().or_else(|| told.key.clone()).unwrap_or_else(|| told.id.clone());
        format!("snapshot {title}")
    };
    few(&all(manifest).into_iter().map(title).collect::<Vec<_>>())
}

/// A list of which a person is shown a few.
fn few(all: &[impl fmt::Display]) -> String {
    const FEW: usize = 5;
    let shown: Vec<_> = all.iter().take(FEW).map(ToString::to_string).collect();
    match all.len().checked_sub(FEW) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Those that come back to themselves, in order.
pub(super) fn circular<T: Copy + Eq + Hash + Ord>(above: &HashMap<T, Vec<T>>) -> Vec<T> {
    // What has nothing above it that is left goes, until nothing goes any more.
    let mut left: BTreeSet<T> = above.keys().copied().collect();
    // A row below a circle is in none: cut from both ends.
    for round in 0..2 {
        let mut below: HashMap<T, Vec<T>> = HashMap::new();
        let mut count: HashMap<T, usize> = HashMap::new();
        for &one in &left {
            for &other in above.get(&one).into_iter().flatten().filter(|other| left.contains(other)) {
                let (from, to) = if round == 0 { (other, one) } else { (one, other) };
                below.entry(from).or_default().push(to);
                *count.entry(to).or_default() += 1;
            }
        }
        let mut free: Vec<T> = left.iter().copied().filter(|one| !count.contains_key(one)).collect();
        while let Some(one) = free.pop() {
            left.remove(&one);
            for to in below.remove(&one).unwrap_or_default() {
                if let Some(count) = count.get_mut(&to) {
                    *count -= 1;
                    if *count == 0 {
                        free.push(to);
                    }
                }
            }
        }
    }
    left.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_back_to_itself_is_in_a_circle() {
        let above = HashMap::from([
            (1, vec![]),
            (2, vec![1]),
            (3, vec![4, 2]),
            (4, vec![5]),
            (5, vec![3]),
            (6, vec![5]),
        ]);
        assert_eq!(circular(&above), [3, 4, 5]);
        assert_eq!(circular(&HashMap::from([(1, vec![1]), (2, vec![1])])), [1]);
        assert!(circular(&HashMap::from([(1, vec![9]), (2, vec![1])])).is_empty());
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(few(&[1, 2]), "1, 2");
        assert_eq!(few(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
    }
}
