//! The requests that the fault sweep makes, and what makes and takes away what they are about.

/// Which faults a verb meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// All that there are.
    All,
    /// The store's, and those that no verb met before on this layout.
    New,
    /// Deaths among its calls to containerd. An error there is one part's, which is reported in its place
    /// and undone, while the other parts are made.
    Deaths,
}

/// A request, and what makes and takes away what it is about. Commands are ctr's and loom's; `snap` is
/// `ctr snapshots` on loom, and `drop` ends a container, its task and its snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    pub name: &'static str,
    pub under: Under,
    pub set: &'static [&'static str],
    pub request: &'static [&'static str],
    pub unset: &'static [&'static str],
    /// What takes all of it away where loomd died behind its change and before its answer, if containerd
    /// cannot ask for it again: a commit is a step inside of a transaction of containerd's own, and its key
    /// is gone when that is rolled back. It is so with every snapshotter.
    pub lost: &'static [&'static str],
}

/// Has a container end at once when it is told to: its shell does not listen to the usual signal.
const QUICK: &str = "ctr containers label there io.containerd.image.config.stop-signal=SIGKILL";

pub const VERBS: &[Verb] = &[
    Verb {
        name: "prepare",
        under: Under::New,
        set: &[],
        request: &["snap prepare made $layer"],
        unset: &["snap rm made"],
        lost: &[],
    },
    Verb {
        name: "view",
        under: Under::New,
        set: &[],
        request: &["snap view seen $layer"],
        unset: &["snap rm seen"],
        lost: &[],
    },
    Verb {
        name: "view of nothing",
        under: Under::New,
        set: &[],
        request: &["snap view seen"],
        unset: &["snap rm seen"],
        lost: &[],
    },
    Verb {
        name: "usage",
        under: Under::New,
        set: &[],
        request: &["snap usage source"],
        unset: &[],
        lost: &[],
    },
    Verb {
        name: "commit",
        under: Under::New,
        set: &["snap prepare work $layer"],
        request: &["snap commit done work"],
        unset: &["snap rm done"],
        lost: &["snap rm work", "collect"],
    },
    Verb {
        name: "remove an active one",
        under: Under::New,
        set: &["snap prepare old $layer"],
        request: &["snap rm old", "collect"],
        unset: &[],
        lost: &[],
    },
    Verb {
        name: "remove a committed one",
        under: Under::New,
        set: &["snap prepare work $layer", "snap commit old work"],
        request: &["snap rm old", "collect"],
        unset: &[],
        lost: &[],
    },
    Verb {
        name: "remove a pinned one",
        under: Under::New,
        set: &["loom fork source --name held --no-start", "loom pin held"],
        request: &["drop held", "collect"],
        unset: &["loom unpin $pinned"],
        lost: &[],
    },
    Verb {
        name: "import",
        under: Under::New,
        set: &[],
        request: &["ctr images import --snapshotter loom $archive"],
        unset: &["ctr images rm --sync loom.test/tiny:1"],
        lost: &[],
    },
    Verb {
        name: "snapshot",
        under: Under::All,
        set: &[],
        request: &["loom snapshot source --name state"],
        unset: &["loom rm state"],
        lost: &[],
    },
    Verb {
        name: "fork",
        under: Under::New,
        set: &[],
        request: &["loom fork source --name one"],
        unset: &["drop one"],
        lost: &[],
    },
    Verb {
        name: "fork three",
        under: Under::Deaths,
        set: &[],
        request: &["loom fork source --name many --count 3"],
        unset: &["drop many-1", "drop many-2", "drop many-3"],
        lost: &[],
    },
    Verb {
        name: "clone",
        under: Under::New,
        set: &[],
        request: &["loom clone origin --name copy"],
        unset: &["drop copy"],
        lost: &[],
    },
    Verb {
        name: "pin",
        under: Under::New,
        set: &[],
        request: &["loom pin source"],
        unset: &["loom unpin source"],
        lost: &[],
    },
    Verb {
        name: "unpin",
        under: Under::New,
        set: &["loom pin source"],
        request: &["loom unpin source"],
        unset: &[],
        lost: &[],
    },
    Verb {
        name: "rm",
        under: Under::New,
        set: &["loom snapshot source --name old"],
        request: &["loom rm old"],
        unset: &[],
        lost: &[],
    },
    Verb {
        name: "rollback",
        under: Under::New,
        set: &["loom fork source --name there", QUICK],
        request: &["loom rollback there origin --name was"],
        unset: &["drop there", "loom rm was"],
        lost: &[],
    },
    Verb {
        name: "promote",
        under: Under::New,
        set: &["loom fork source --name there", QUICK, "loom fork there --name child"],
        request: &["loom promote child --name was"],
        unset: &["drop child", "drop there", "loom rm was"],
        lost: &[],
    },
    Verb {
        name: "resume",
        under: Under::All,
        set: &["loom fork source --name still --no-start"],
        request: &["loom resume still"],
        unset: &["drop still"],
        lost: &[],
    },
];
