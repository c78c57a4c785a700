//! What can be typed: the verbs of `loom`, their arguments, and what is refused before loomd hears of it.

use std::ffi::OsString;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use super::help;

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
        /// Every image layer on a line of its own
        #[arg(long, short)]
        all: bool,
    },
    /// Show the way from a snapshot to its root
    Lineage {
        /// A container or a snapshot
        #[arg(value_name = "REF", value_parser = reference)]
        reference: String,
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
    Snapshot {
        /// A container, or a writable snapshot
        #[arg(value_name = "CONTAINER", value_parser = reference)]
        reference: String,
        /// The snapshot's name; without it, "<container>-<6 hex digits>"
        #[arg(long, value_name = "NEW")]
        name: Option<String>,
        /// A label for it; may be given more than once
        #[arg(long = "label", value_name = "K=V", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Make containers that continue from the state of a live one
    #[command(after_help = help::FORK)]
    Fork {
        /// A container
        #[arg(value_name = "CONTAINER", value_parser = reference)]
        reference: String,
        /// The fork's name; without it, "<container>-fork-<6 hex digits>"; with a count, "<NEW>-1" and on
        #[arg(long, value_name = "NEW")]
        name: Option<String>,
        /// How many, all of one moment: 1 to 1000
        #[arg(long, short, value_name = "N", default_value_t = 1)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        /// Leave them stopped
        #[arg(long)]
        no_start: bool,
    },
    /// Make a container whose files are a snapshot's
    #[command(after_help = help::CLONE)]
    Clone {
        /// A snapshot of a container
        #[arg(value_name = "SNAPSHOT", value_parser = reference)]
        reference: String,
        /// The container's name; without it, "<container>-fork-<6 hex digits>"
        #[arg(long, value_name = "NEW")]
        name: Option<String>,
        /// Leave it stopped
        #[arg(long)]
        no_start: bool,
    },
    /// Start the process of a container, or continue it where it is paused
    Resume {
        /// A container
        #[arg(value_name = "CONTAINER", value_parser = reference)]
        reference: String,
    },
    /// Print a shell's completions
    #[command(after_help = help::COMPLETION)]
    Completion {
        /// The shell
        #[arg(value_name = "SHELL", value_parser = shell())]
        shell: Shell,
    },
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
    for address in [&mut global.address, &mut global.containerd] {
        if let Some(path) = address.strip_prefix("unix://") {
            *address = path.to_owned();
        }
    }
    Ok(args)
}

/// loomd says what a reference means; only what can be none is refused here.
fn reference(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        _ if text.trim().is_empty() => Err("it is empty".into()),
        Some((prefix @ ("container" | "snapshot"), "")) => Err(format!("a name must follow \"{prefix}:\"")),
        _ => Ok(text.to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".into()),
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
