//! The requests that the fault sweep makes, and what makes and takes away what they are about.

use serde_json::Value;

use super::layout::Layout;

/// What a request printed, or why it failed.
pub type Answer = Result<String, String>;

/// Which faults a verb meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// All that there are: an error and a death at each.
    Each,
    /// The store's, and those that no verb met before on this layout.
    New,
    /// Those that no verb met before on this layout.
    Unmet,
    /// Deaths among its calls to containerd. An error there is one part's, which is reported in its place
    /// and undone, while the other parts are made.
    Deaths,
}

/// A request, and what makes and takes away what it is about. Commands are ctr's, nerdctl's and loom's; `snap` is
/// `ctr snapshots` on loom, `in` runs something in a container, and `drop` ends a container, its task and its
/// snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Verb {
    pub name: &'static str,
    pub under: Under,
    /// Where it meets them; elsewhere it meets those that no verb met before. None is everywhere.
    pub on: Option<Layout>,
    pub set: &'static [&'static str],
    pub request: &'static [&'static str],
    pub unset: &'static [&'static str],
    /// What takes all of it away where loomd died behind its change and before its answer, if containerd
    /// cannot ask for it again: a commit is a step inside of a transaction of containerd's own, and its key
    /// is gone when that is rolled back. It is so with every snapshotter.
    pub lost: &'static [&'static str],
    /// It is about containers of nerdctl's.
    pub nerdctls: bool,
    /// It needs a pool.
    pub pool: bool,
    /// Where layers stack, its source's is sealed as it lies: that stays so when the state is undone.
    pub seals: bool,
}

impl Verb {
    /// True where it leaves something to containerd's collector: a view in which nerdctl looked at an image, a snapshot
    /// that an import tried. Others make what the collector would take, were it asked to run.
    pub fn leaves(&self) -> bool {
        self.nerdctls || self.request.iter().any(|command| command.starts_with("loom import"))
    }

    /// True where its request has an idempotency key: it is tracked as an operation.
    pub fn has_key(&self) -> bool {
        self.request.iter().any(|command| command.contains("$key"))
    }
}

/// What an answer says of what was done. What an image is like is looked up behind that, each time anew, and left out
/// where it cannot be.
///
/// # Errors
/// The request's own.
pub fn result(answer: &Answer) -> Result<Value, String> {
    let mut result: Value = serde_json::from_str(answer.as_ref()?).map_err(|error| error.to_string())?;
    if let Some(image) = result["image"].as_object_mut() {
        image.retain(|field, _| ["name", "digest", "chain_id", "snapshot"].contains(&field.as_str()));
    }
    Ok(result)
}

/// A verb of nothing: what most verbs have of each field.
const VERB: Verb = Verb {
    name: "",
    under: Under::New,
    on: None,
    set: &[],
    request: &[],
    unset: &[],
    lost: &[],
    nerdctls: false,
    pool: false,
    seals: false,
};

/// A fork that writes nothing by itself, and ends when it is told to.
const VICTIM: &str =
    "loom fork source --name victim --label io.containerd.image.config.stop-signal=SIGKILL -- sleep 10000";
/// A container of an image, which does not run.
const STANDS: &str = "ctr containers create --snapshotter loom loom.test/state:1 stands sleep 10000";
/// A fork of the victim.
const BETTER: &str = "loom fork victim --name better";
/// containerd's restart monitor looks after it, and does not any more.
const WATCHED: &str = "ctr containers label victim containerd.io/restart.status=running";
const UNWATCHED: &str = "ctr containers label victim containerd.io/restart.status=";

pub const VERBS: &[Verb] = &[
    Verb { name: "prepare", request: &["snap prepare made $layer"], unset: &["snap rm made"], ..VERB },
    Verb { name: "view", request: &["snap view seen $layer"], unset: &["snap rm seen"], ..VERB },
    Verb { name: "view of nothing", request: &["snap view seen"], unset: &["snap rm seen"], ..VERB },
    Verb { name: "diff", request: &["loom diff origin source --patch"], ..VERB },
    Verb { name: "usage", request: &["snap usage source"], ..VERB },
    Verb {
        name: "commit",
        set: &["snap prepare work $layer"],
        request: &["snap commit done work"],
        unset: &["snap rm done"],
        lost: &["snap rm work", "collect"],
        ..VERB
    },
    Verb {
        name: "remove an active one",
        set: &["snap prepare old $layer"],
        request: &["snap rm old", "collect"],
        ..VERB
    },
    Verb {
        name: "remove a committed one",
        set: &["snap prepare work $layer", "snap commit old work"],
        request: &["snap rm old", "collect"],
        ..VERB
    },
    Verb {
        name: "remove a pinned one",
        set: &["loom fork source --name held --no-start", "loom pin held"],
        request: &["drop held", "collect"],
        unset: &["loom unpin $pinned"],
        ..VERB
    },
    Verb {
        name: "import",
        request: &["ctr images import --snapshotter loom $archive"],
        unset: &["ctr images rm --sync loom.test/tiny:1"],
        ..VERB
    },
    Verb {
        name: "snapshot",
        under: Under::Each,
        on: Some(Layout::Ext4),
        request: &["loom snapshot source --name state --idempotency-key $key --json"],
        unset: &["loom rm state"],
        ..VERB
    },
    Verb {
        name: "fork",
        under: Under::Each,
        on: Some(Layout::Ext4Pool),
        request: &["loom fork source --name one --idempotency-key $key --json"],
        unset: &["drop one"],
        ..VERB
    },
    Verb {
        name: "fork three",
        under: Under::Deaths,
        request: &["loom fork source --name many --count 3 --idempotency-key $key --json"],
        unset: &["drop many-1", "drop many-2", "drop many-3"],
        ..VERB
    },
    Verb {
        name: "clone",
        request: &["loom clone origin --name copy --idempotency-key $key --json"],
        unset: &["drop copy"],
        ..VERB
    },
    Verb { name: "pin", request: &["loom pin source"], unset: &["loom unpin source"], ..VERB },
    Verb { name: "unpin", set: &["loom pin source"], request: &["loom unpin source"], ..VERB },
    Verb { name: "rm", set: &["loom snapshot source --name old"], request: &["loom rm old"], ..VERB },
    Verb {
        name: "resume",
        under: Under::Each,
        set: &["loom fork source --name still --no-start"],
        request: &["loom resume still --idempotency-key $key --json"],
        unset: &["drop still"],
        ..VERB
    },
    Verb {
        name: "snapshot of a stopped one",
        under: Under::Each,
        on: Some(Layout::Ext4),
        set: &["loom fork source --name still --no-start"],
        request: &["loom snapshot still --name state --idempotency-key $key --json"],
        unset: &["loom rm state", "drop still"],
        seals: true,
        ..VERB
    },
    Verb {
        name: "fork of a stopped one",
        under: Under::Unmet,
        set: &["loom fork source --name still --no-start"],
        request: &["loom fork still --name one --no-start --idempotency-key $key --json"],
        unset: &["drop one", "drop still"],
        seals: true,
        ..VERB
    },
    Verb {
        name: "snapshot of an application",
        under: Under::Unmet,
        request: &["loom snapshot source --name state --consistency app --idempotency-key $key --json"],
        unset: &["loom rm state"],
        ..VERB
    },
    Verb {
        name: "nerdctl's fork",
        under: Under::Unmet,
        request: &["loom fork web --name try --volumes clone --idempotency-key $key --json"],
        unset: &["nerdctl rm -f -v try", "nerdctl volume rm try_data"],
        nerdctls: true,
        ..VERB
    },
    Verb {
        name: "nerdctl's rollback",
        under: Under::Unmet,
        set: &["loom fork web --name victim", "loom snapshot victim --name state"],
        request: &["loom rollback victim state --name before --idempotency-key $key --json"],
        unset: &["nerdctl rm -f -v victim", "loom rm before", "loom rm state"],
        nerdctls: true,
        ..VERB
    },
    Verb {
        name: "rollback",
        under: Under::Each,
        on: Some(Layout::Ext4),
        set: &[VICTIM, "in victim touch /root/own", WATCHED],
        request: &["loom rollback victim origin --name before --idempotency-key $key --json"],
        unset: &[UNWATCHED, "drop victim", "loom rm before"],
        ..VERB
    },
    Verb {
        name: "rollback and discard",
        under: Under::Deaths,
        set: &[VICTIM, "in victim touch /root/own"],
        request: &["loom rollback victim origin --discard --idempotency-key $key --json"],
        unset: &["drop victim"],
        ..VERB
    },
    Verb {
        name: "promote",
        under: Under::Each,
        on: Some(Layout::Ext4Pool),
        set: &[VICTIM, "in victim touch /root/own", BETTER, "in better touch /root/new-state"],
        request: &["loom promote better --name before --if-unchanged --idempotency-key $key --json"],
        unset: &["drop victim", "drop better", "loom rm before"],
        ..VERB
    },
    Verb {
        name: "image",
        request: &["loom commit source swept --idempotency-key $key --json"],
        unset: &["ctr images rm --sync docker.io/library/swept:latest"],
        ..VERB
    },
    Verb {
        name: "image of a snapshot",
        under: Under::Unmet,
        request: &["loom commit origin swept --idempotency-key $key --json"],
        unset: &["ctr images rm --sync docker.io/library/swept:latest"],
        ..VERB
    },
    Verb {
        name: "image of a container in a user namespace",
        under: Under::Unmet,
        set: &[
            "ctr run -d --snapshotter loom --uidmap 0:200000:65536 --gidmap 0:200000:65536 --remap-labels \
              $image mapped sleep 10000",
        ],
        request: &["loom commit mapped swept --idempotency-key $key --json"],
        unset: &["drop mapped", "ctr images rm --sync docker.io/library/swept:latest"],
        // It is not, but only the containerd of those mounts anything under a mapping.
        nerdctls: true,
        ..VERB
    },
    Verb {
        name: "tag",
        request: &["loom tag $image swept"],
        unset: &["ctr images rm --sync docker.io/library/swept:latest"],
        ..VERB
    },
    Verb {
        name: "portable",
        under: Under::Unmet,
        // The container keeps the image's old layer in containerd, so that the new one is one more.
        set: &["loom commit source loom.test/state:1", STANDS],
        request: &["loom portable loom.test/state:1 --idempotency-key $key --json"],
        unset: &["drop stands", "ctr images rm --sync loom.test/state:1"],
        ..VERB
    },
    Verb {
        name: "loom's import",
        under: Under::Unmet,
        request: &["loom import $archive loom.test/in:1 --idempotency-key $key --json"],
        unset: &["ctr images rm --sync loom.test/in:1"],
        ..VERB
    },
    Verb {
        name: "export",
        under: Under::Unmet,
        request: &["loom export source --format oci --image loom.test/out:1 -o /dev/null"],
        ..VERB
    },
    // Elsewhere nothing keeps a limit.
    Verb {
        name: "limit",
        request: &["loom limit source 1G"],
        unset: &["loom limit source none"],
        pool: true,
        ..VERB
    },
    Verb {
        name: "fork with a limit",
        under: Under::Unmet,
        set: &["loom limit source 1G"],
        request: &["loom fork source --name kept --idempotency-key $key --json"],
        unset: &["drop kept", "loom limit source none"],
        pool: true,
        ..VERB
    },
    Verb {
        name: "prune",
        // One: each of several goes by itself.
        set: &["loom snapshot source --name old --label by=sweep"],
        request: &["loom prune --label by=sweep"],
        ..VERB
    },
    Verb {
        name: "check",
        under: Under::Unmet,
        set: &["loom snapshot source --name old", "spoil"],
        request: &["loom check --repair"],
        unset: &["loom rm old"],
        ..VERB
    },
];
