//! What can be typed: the verbs of `loom`, their arguments, and what is refused before loomd hears of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, CommandFactory as _, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use jiff::{SignedDuration, Span, SpanRelativeTo};

use super::help;

mod branch;
mod image;
mod pool;

pub use branch::{
    Asked, Changes, Clone, Consistency, Fork, Kept, Once, Policy, Promote, Resume, Rollback, Snapshot, Start,
    Volumes, Whole,
};
pub use image::{
    Commit, Compression, Described, Diff, Export, Format, Import, Output, Portable, Push, Save, Tag,
};

pub use pool::{Create as CreatePool, Pool};

/// The socket that loomd serves the admin service on, unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "/run/loom/loom.sock.ttrpc";

/// containerd's namespace, unless told otherwise.
const DEFAULT_NAMESPACE: &str = "default";

/// A whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "loom",
    version,
    about = "Branch containers while they run",
    after_help = help::LOOM,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Args {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// loomd's ttrpc socket
    #[arg(long, global = true, env = "LOOM_ADDRESS", hide_env_values = true, value_name = "PATH")]
    #[arg(default_value = DEFAULT_ADDRESS, value_hint = ValueHint::FilePath, help_heading = help::GLOBAL)]
    pub address: String,
    /// containerd's socket; without it, the one in loomd's configuration
    #[arg(long, global = true, env = "CONTAINERD_ADDRESS", hide_env_values = true, value_name = "PATH")]
    #[arg(default_value = "", hide_default_value = true, value_hint = ValueHint::FilePath)]
    #[arg(help_heading = help::GLOBAL)]
    pub containerd: String,
    /// containerd's namespace
    #[arg(long, short, global = true, env = "CONTAINERD_NAMESPACE", hide_env_values = true)]
    #[arg(default_value = DEFAULT_NAMESPACE, value_name = "NAME", help_heading = help::GLOBAL)]
    pub namespace: String,
    /// Print JSON for programs, errors too
    #[arg(long, global = true, help_heading = help::GLOBAL)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Show loomd's version, its places, and how it branches
    Status,
    /// List snapshots, oldest first
    #[command(after_help = help::LS)]
    Ls {
        /// Image layers, and what only lineage keeps, as well
        #[arg(long, short)]
        all: bool,
        /// Only ids, whole, one a line
        #[arg(long, short, conflicts_with = "json")]
        quiet: bool,
    },
    /// Draw what was branched from what
    #[command(after_help = help::TREE)]
    Tree {
        /// Only what comes from this container, snapshot or image, and itself
        #[arg(value_name = "REF", value_parser = reference)]
        reference: Option<String>,
        /// Every snapshot on a line of its own
        #[arg(long, short)]
        all: bool,
        /// What to write
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t, conflicts_with = "json")]
        format: Drawing,
    },
    /// Show the way from a snapshot to its root
    #[command(after_help = help::LINEAGE)]
    Lineage {
        /// A container, a snapshot or an image
        #[arg(value_name = "REF", value_parser = reference)]
        reference: String,
        /// What to write
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t, conflicts_with = "json")]
        format: Drawing,
    },
    /// Show all that is known of a snapshot, as JSON
    Inspect {
        /// A container or a snapshot
        #[arg(value_name = "REF", value_parser = reference)]
        reference: String,
    },
    /// Keep a snapshot whatever containerd removes, until it is unpinned
    Pin {
        /// A container or a snapshot
        #[arg(value_name = "REF", value_parser = reference)]
        reference: String,
    },
    /// End a pin; a snapshot that nothing else keeps goes with it
    Unpin {
        /// A snapshot
        #[arg(value_name = "REF", value_parser = reference)]
        reference: String,
    },
    /// Remove snapshots that loom keeps
    #[command(after_help = help::RM)]
    Rm {
        /// Snapshots
        #[arg(value_name = "REF", required = true, value_parser = reference)]
        references: Vec<String>,
    },
    /// Make a snapshot of a container, which runs on
    #[command(after_help = help::SNAPSHOT)]
    Snapshot(Snapshot),
    /// Make containers that continue from the state of a live one
    #[command(after_help = help::FORK)]
    Fork(Fork),
    /// Make a container whose files are a snapshot's
    #[command(after_help = help::CLONE)]
    Clone(Clone),
    /// Give a container the files of a snapshot of its own; what it had is kept
    #[command(after_help = help::ROLLBACK)]
    Rollback(Rollback),
    /// Give the container that a fork was made from the fork's files; what it had is kept
    #[command(after_help = help::PROMOTE)]
    Promote(Promote),
    /// Start the process of a container, or continue it where it is paused
    Resume(Resume),
    /// Make an image of a container, which runs on, or of a snapshot
    #[command(after_help = help::COMMIT)]
    Commit(Commit),
    /// Write what of an image only this node has, so that any tool can save and push it
    #[command(after_help = help::PORTABLE)]
    Portable(Portable),
    /// List the images that are on loom
    #[command(after_help = help::IMAGES)]
    Images {
        /// Only names, one a line
        #[arg(long, short, conflicts_with = "json")]
        quiet: bool,
    },
    /// Give an image another name
    #[command(after_help = help::TAG)]
    Tag(Tag),
    /// Write an image as an OCI archive
    #[command(after_help = help::SAVE)]
    Save(Save),
    /// Push an image, with nerdctl
    #[command(after_help = help::PUSH)]
    Push(Push),
    /// Show what differs between two states
    #[command(after_help = help::DIFF)]
    Diff(Diff),
    /// Write the files of a state, or an image, as an archive
    #[command(after_help = help::EXPORT)]
    Export(Export),
    /// Make an image of an archive
    #[command(after_help = help::IMPORT)]
    Import(Import),
    /// Remove the snapshots that loom keeps by name, but for pinned ones
    #[command(after_help = help::PRUNE)]
    Prune(Prune),
    /// Show what containers, snapshots and images take on disk
    #[command(after_help = help::DF)]
    Df,
    /// Set or end the limit of what a container may write
    #[command(after_help = help::LIMIT)]
    Limit(Limit),
    /// Compare what is on disk, in the database, mounted and known to containerd
    #[command(after_help = help::CHECK)]
    Check(Check),
    /// List operations, newest first: every branch is one
    #[command(after_help = help::OPERATIONS)]
    Operations {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "watch")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print those under way, and every change as it comes
        #[arg(long, short)]
        watch: bool,
    },
    /// Show an operation: its steps, warnings and error
    #[command(after_help = help::OPERATION)]
    Operation {
        /// Its id, or the first four or more of its digits
        #[arg(value_name = "ID", value_parser = reference)]
        id: String,
        /// Print every change as it comes, until it has ended
        #[arg(long, short)]
        watch: bool,
    },
    /// Stop an operation at its next step, and undo it
    Cancel {
        /// Its id, or the first four or more of its digits
        #[arg(value_name = "ID", value_parser = reference)]
        id: String,
    },
    /// Make, enlarge and show the place where forks cost nothing
    #[command(after_help = help::POOL)]
    Pool {
        /// What to do
        #[command(subcommand)]
        verb: Pool,
    },
    /// Print a shell's completions
    #[command(after_help = help::COMPLETION)]
    Completion {
        /// The shell
        #[arg(value_name = "SHELL", value_parser = shell())]
        shell: Shell,
    },
}

/// What a tree or a lineage is written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// For a terminal
    #[default]
    Text,
    /// As --json
    Json,
    /// For Graphviz
    Dot,
    /// For Mermaid, in Markdown
    Mermaid,
    /// A picture
    Svg,
}

/// `loom limit`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Limit {
    /// A container
    #[arg(value_name = "CONTAINER", value_parser = reference)]
    pub reference: String,
    /// The most that it may write, such as 512M or 10G, or "none"
    #[arg(value_name = "SIZE", value_parser = limit)]
    pub bytes: Most,
}

/// The most that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Most {
    /// So many bytes.
    Bytes(u64),
    /// What there is room for.
    None,
}

/// `loom check`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Check {
    /// Put right what needs no guess
    #[arg(long)]
    pub repair: bool,
    /// This root, which no loomd has, instead of the one that loomd serves
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Where that root's pool is, if it has one that loom did not make
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "root")]
    pub pool: Option<PathBuf>,
    /// Make that root's database anew of what the layers say; the one that is there is kept
    #[arg(long, requires = "root", conflicts_with = "repair")]
    pub rebuild: bool,
}

/// `loom prune`.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Prune {
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What a prune is about: at least one of these must be given.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
#[group(required = true, multiple = true)]
pub struct Which {
    /// Only those that are older
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Only those with this label; an empty value fits any; may be given more than once
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Only states of this container, which may be gone
    #[arg(long, value_name = "CONTAINER", value_parser = reference)]
    pub container: Option<String>,
    /// All of them
    #[arg(long, short, conflicts_with_all = ["older_than", "labels", "container"])]
    pub all: bool,
}

/// Reads a command line; its first word is the program's name.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    let mut args = Args::try_parse_from(words)?;
    let global = &mut args.global;
    // An empty variable is an unset one, as containerd's own clients have it.
    if global.address.is_empty() {
        DEFAULT_ADDRESS.clone_into(&mut global.address);
    }
    if global.namespace.is_empty() {
        DEFAULT_NAMESPACE.clone_into(&mut global.namespace);
    }
    if let Verb::Tree { format: Drawing::Json, .. } | Verb::Lineage { format: Drawing::Json, .. } = args.verb
    {
        global.json = true;
    }
    for address in [&mut global.address, &mut global.containerd] {
        if let Some(path) = address.strip_prefix("unix://") {
            *address = path.to_owned();
        }
    }
    if let Verb::Export(export) = &args.verb {
        let wrong = |why| Args::command().error(clap::error::ErrorKind::ArgumentConflict, why);
        export.check().map_err(wrong)?;
    }
    Ok(args)
}

/// loomd says what a reference means; only what can be none is refused here.
fn reference(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        _ if text.trim().is_empty() => Err("it is empty".into()),
        Some((prefix @ ("container" | "snapshot" | "image"), "")) => {
            Err(format!("a name must follow \"{prefix}:\""))
        }
        _ => Ok(text.to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".into()),
    }
}

/// A length of time in whole seconds, at least one: `90s`, `1h30m`, `7d`. A day has 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |_| "a duration is such as 90s, 15m, 12h, 7d or 1h30m".to_owned();
    let span: Span = text.trim().parse().map_err(wrong)?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(wrong)?;
    if signed < SignedDuration::from_secs(1) {
        return Err("it must be a second or more".to_owned());
    }
    Ok(Duration::from_secs(signed.as_secs().unsigned_abs()))
}

/// A limit: a size, or none.
fn limit(text: &str) -> Result<Most, String> {
    if text.trim() == "none" { Ok(Most::None) } else { bytes(text).map(Most::Bytes) }
}

/// A size in bytes: `512M`, `50G`, `1.5T`.
fn bytes(text: &str) -> Result<u64, String> {
    match crate::bytes::parse(text)? {
        0 => Err("it must be more than nothing".into()),
        bytes => Ok(bytes),
    }
}

/// The shells that completions are kept for in `contrib/`.
fn shell() -> impl clap::builder::TypedValueParser<Value = Shell> {
    use clap::builder::TypedValueParser as _;
    clap::builder::PossibleValuesParser::new(["bash", "zsh", "fish"]).map(|name| match name.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    })
}
