//! Check: what is on disk, in the database, mounted and known to containerd is compared, and put right where that
//! needs no guess.
//!
//! ```text
//!            database ◄──────────► layers/, trash/, subvolumes      (compare)
//!             ▲     ▲                  ▲            ▲
//!             ▼     └── layer.json ────┘            ▼
//!    containerd's records  (records)           mount tables
//!
//!    findings ──► repair: what nothing refers to goes to the trash; what the rows say is said again
//!    layer.json, notes ──► rebuild: a new database; the old one is kept beside it
//! ```
//!
//! Two doors: [`running`] for a loomd that serves, whose requests go on meanwhile, and [`offline`] for a root that no
//! loomd has; that one takes the root's lock. What a request under way makes look wrong for a moment is told from
//! damage by looking several times: only what every look sees is a finding.
//!
//! Repair removes what nothing refers to: no row, no mount, and no `layer.json`, which is what says that someone was
//! told that these bytes are kept. Everything else it leaves, and says why.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::layer::{Layers, Stray};
use crate::snapshot::Snapshots;
use crate::store::{Home, LayerId, Store};

mod compare;
mod offline;
mod rebuild;
mod records;
mod repair;
#[cfg(test)]
mod tests;

pub use offline::{How, offline};
pub use records::{Held, Records};

/// How often a root that is in use is looked at, and the time between two looks.
const LOOKS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(400);

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing it is.
    pub code: Code,
    /// What it is about: a layer, a snapshot, a mount, with its path or key.
    pub what: String,
    /// What is wrong, for people, and what can be done.
    pub message: String,
    /// The bytes that it takes on disk, where it is something that nothing refers to.
    pub bytes: u64,
    /// Whether it can be put right without a guess.
    pub repair: Repair,
}

/// Whether something can be put right without a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It cannot.
    None,
    /// It can, and was not asked for.
    Possible,
    /// It was.
    Done,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Possible => "possible",
            Self::Done => "done",
        })
    }
}

/// Each code with its word.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $word:literal),+ $(,)?) => {
        /// What kind of thing does not agree.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $code),+ }

        /// The stable word for programs.
        impl fmt::Display for Code {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$code => $word),+ })
            }
        }
    };
}

codes! {
    /// There is no database.
    DatabaseMissing = "database-missing",
    /// The database cannot be read.
    DatabaseDamaged = "database-damaged",
    /// The database was made anew.
    DatabaseRebuilt = "database-rebuilt",
    /// A layer's directory is not there.
    LayerMissing = "layer-missing",
    /// A directory that no row knows and that was never sealed.
    LayerUnknown = "layer-unknown",
    /// Likewise a subvolume of the pool.
    SubvolumeLeaked = "subvolume-leaked",
    /// Committed bytes that no row knows.
    LayerLost = "layer-lost",
    /// A layer on which nothing stands.
    LayerUnused = "layer-unused",
    /// A layer to which two snapshots write.
    LayerShared = "layer-shared",
    /// A layer of which nobody knows whose it was.
    LayerRecovered = "layer-recovered",
    /// A sealed layer without its `layer.json`.
    ManifestMissing = "manifest-missing",
    /// A `layer.json` that cannot be read.
    ManifestUnreadable = "manifest-unreadable",
    /// A `layer.json` that says another base, parent or source than the database.
    ManifestDiffers = "manifest-differs",
    /// A `layer.json` that says what was so earlier.
    ManifestOld = "manifest-old",
    /// A layer that is written to, and has a `layer.json`.
    SealUnfinished = "seal-unfinished",
    /// A row that refers to one that is not there.
    RowMissing = "row-missing",
    /// Rows that refer to each other in a circle.
    Circle = "circle",
    /// A name that loom does not give.
    NameUnknown = "name-unknown",
    /// A subvolume within a layer.
    SubvolumeNested = "subvolume-nested",
    /// Something removed that was not reclaimed yet.
    Trash = "trash",
    /// A mount of a layer that is gone.
    MountStale = "mount-stale",
    /// Two mounts write to one layer.
    MountShared = "mount-shared",
    /// A snapshot that containerd has no record of.
    RecordMissing = "record-missing",
    /// A record of containerd's without its snapshot.
    SnapshotMissing = "snapshot-missing",
    /// A container without its snapshot.
    ContainerBroken = "container-broken",
    /// containerd did not answer.
    ContainerdSilent = "containerd-silent",
}

/// A finding, and what would put it right.
#[derive(Debug, Clone)]
struct Case {
    finding: Finding,
    fix: Option<Fix>,
    /// What its bytes are.
    weigh: Option<PathBuf>,
}

/// What puts something right.
#[derive(Debug, Clone)]
enum Fix {
    /// The directory goes to the trash.
    Discard(Home, LayerId),
    /// Likewise, of what is no layer.
    ThrowAway(Stray),
    /// `layer.json` is written as the rows have it.
    Tell(LayerId),
    /// The layer is written to again.
    Unseal(LayerId),
    /// The row goes.
    Forget(LayerId),
    /// The trash is emptied.
    Reclaim(LayerId),
}

impl Case {
    /// Something that nobody can put right but the reader of `message`.
    fn told(code: Code, what: impl Into<String>, message: impl Into<String>) -> Self {
        let (what, message) = (what.into(), message.into());
        let finding = Finding { code, what, message, bytes: 0, repair: Repair::None };
        Self { finding, fix: None, weigh: None }
    }

    /// Something that a repair puts right.
    fn fixed_by(fix: Fix, code: Code, what: impl Into<String>, message: impl Into<String>) -> Self {
        let mut case = Self::told(code, what, message);
        case.finding.repair = Repair::Possible;
        case.fix = Some(fix);
        case
    }

    /// Whose bytes nothing refers to.
    fn weighed(mut self, path: PathBuf) -> Self {
        self.weigh = Some(path);
        self
    }

    /// What makes it the same one in another look.
    fn same(&self) -> (Code, String) {
        (self.finding.code, self.finding.what.clone())
    }
}

/// Checks the root that `core` serves, while it does, and what containerd knows of it (`None` compares nothing of
/// that); puts right what can be put right where that is asked for.
pub fn running(core: &Snapshots, records: Option<&Records>, repair: bool) -> Result<Vec<Finding>> {
    let (store, layers) = (core.store(), core.layers());
    // What requests before this have left to do would look like damage.
    core.wait_for_chores();
    let mut cases = compare::look(store, layers, true)?;
    for _ in 1..LOOKS {
        if cases.is_empty() {
            break;
        }
        std::thread::sleep(BETWEEN);
        let again: BTreeSet<_> = compare::look(store, layers, true)?.iter().map(Case::same).collect();
        cases.retain(|case| again.contains(&case.same()));
    }
    if let Some(records) = records {
        cases.extend(records.compare(store)?);
    }
    let findings = conclude(store, layers, cases, repair)?;
    if repair {
        core.empty_trash();
    }
    Ok(findings)
}

/// Weighs what is left over, puts right what is to be, and answers all of it, the same kind together.
fn conclude(store: &Store, layers: &Layers, cases: Vec<Case>, repair: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for mut case in cases {
        if let Some(path) = &case.weigh {
            // What cannot be weighed is told without.
            case.finding.bytes = layers.weigh(path).unwrap_or_default();
        }
        if repair && let Some(fix) = &case.fix {
            match repair::put_right(store, layers, fix) {
                Ok(()) => case.finding.repair = Repair::Done,
                Err(error) => {
                    case.finding.repair = Repair::None;
                    case.finding.message = format!("{}. It was not put right: {error}", case.finding.message);
                }
            }
        }
        findings.push(case.finding);
    }
    if repair {
        layers.settle()?;
    }
    findings.sort_by(|a, b| (a.code, &a.what).cmp(&(b.code, &b.what)));
    Ok(findings)
}
