//! The `loom` command: its verbs, and what they print.
//!
//! A run goes one way: [`args`] reads the command line, `client` asks loomd, `show`, `tree` and `json`
//! turn the answer into text, and this file writes it and ends with an [`Exit`]. Results go to
//! standard output and everything else to standard error, so that a pipe gets results only.

pub mod args;
mod client;
mod help;
mod json;
mod show;
mod table;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use ttrpc::Code;

use self::args::{Args, Verb};
pub use self::client::{Client, Exit, Failure};
use self::show::Look;
use crate::protos::admin::{CloneResponse, ForkResponse, Forked};

/// What a verb came to.
#[derive(Debug, Default)]
struct Answer {
    /// The result, for standard output.
    out: String,
    /// What a person wants to know beside it, for standard error; nothing with `--json`.
    note: String,
    /// What was not done. The first decides the exit status.
    failures: Vec<Failure>,
}

impl Answer {
    fn of(out: impl Into<String>) -> Self {
        Self { out: out.into(), ..Self::default() }
    }
}

/// Runs the command line of this process to its exit code.
pub fn main() -> ExitCode {
    run(std::env::args_os().collect(), &mut io::stdout(), &mut io::stderr()).into()
}

fn run(words: Vec<OsString>, out: &mut impl Write, err: &mut impl Write) -> Exit {
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(error) => return usage(&error, json, err),
    };
    let json = args.global.json;
    let look = Look::of_stdout(&args.global.namespace);
    let mut answer = match ask(args, &look) {
        Ok(answer) => answer,
        Err(failure) => Answer { failures: vec![failure], ..Answer::default() },
    };
    match out.write_all(answer.out.as_bytes()).and_then(|()| out.flush()) {
        // The reader has seen enough: that is its right.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("cannot write to standard output: {error}");
            answer.failures.push(Failure::new(Code::INTERNAL, message));
        }
        _ => {}
    }
    if !json {
        let _ = err.write_all(answer.note.as_bytes());
    }
    for failure in &answer.failures {
        let text = if json { json::error(failure) } else { show::failure(failure) };
        // Nobody is left to tell that standard error is closed; the exit status still tells.
        let _ = err.write_all(text.as_bytes());
    }
    answer.failures.first().map_or(Exit::Done, Failure::exit)
}

/// A command line that was refused, or that asked for help or the version.
fn usage(error: &clap::Error, json: bool, err: &mut impl Write) -> Exit {
    if error.use_stderr() && json {
        let message = error.render().to_string();
        let message = message.trim_start_matches("error: ").trim_end();
        let _ = err.write_all(json::error(&Failure::new(Code::INVALID_ARGUMENT, message)).as_bytes());
    } else {
        let _ = error.print();
    }
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

fn ask(args: Args, look: &Look) -> Result<Answer, Failure> {
    if let Verb::Completion { shell } = args.verb {
        return Ok(Answer::of(completion(shell)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::INTERNAL, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let client = Client::connect(&args.global).await?;
        answer(&client, args.verb, args.global.json, look).await
    })
}

async fn answer(client: &Client, verb: Verb, json: bool, look: &Look) -> Result<Answer, Failure> {
    match verb {
        Verb::Status => {
            let status = client.status().await?;
            if json {
                return json::text(&json::Status::from(&status)).map(Answer::of);
            }
            Ok(Answer::of(show::status(look, &status)))
        }
        Verb::Ls { all, quiet } => {
            let snapshots = client.list(all).await?;
            match (json, quiet) {
                (true, _) => json::snapshots(&snapshots).map(Answer::of),
                (false, true) => Ok(Answer::of(show::ids(&snapshots))),
                (false, false) => Ok(Answer::of(show::list(look, &snapshots))),
            }
        }
        Verb::Tree { all } => {
            let snapshots = client.list(true).await?;
            let forest = tree::Forest::new(&snapshots);
            if json {
                return json::snapshots(forest.in_order()).map(Answer::of);
            }
            Ok(Answer::of(forest.draw(look, all)))
        }
        Verb::Lineage { reference } => {
            let way = client.lineage(reference).await?;
            if json {
                return json::snapshots(&way).map(Answer::of);
            }
            Ok(Answer::of(show::lineage(look, &way)))
        }
        Verb::Inspect { reference } => {
            json::text(&json::Snapshot::from(&client.get(reference).await?)).map(Answer::of)
        }
        Verb::Pin { reference } => {
            let snapshot = client.pin(reference).await?;
            if json {
                return json::text(&json::Snapshot::from(&snapshot)).map(Answer::of);
            }
            Ok(Answer::of(units::clean(&show::title(&snapshot, &look.namespace)) + "\n"))
        }
        Verb::Unpin { reference } => {
            client.unpin(reference.clone()).await?;
            if json {
                return json::text(&json::Unpinned { reference: &reference, pinned: false }).map(Answer::of);
            }
            Ok(Answer::of(reference + "\n"))
        }
        Verb::Rm { references } => remove(client, references, json).await,
        Verb::Resume { reference } => {
            let resumed = client.resume(reference).await?;
            if json {
                let object = json::Resumed { container: &resumed.container, pid: resumed.pid };
                return json::text(&object).map(Answer::of);
            }
            Ok(Answer::of(format!("{}   pid {}\n", units::clean(&resumed.container), resumed.pid)))
        }
        Verb::Snapshot { reference, name, labels } => {
            let made = client.snapshot(reference, name, labels).await?;
            if json {
                let (snapshot, cost) = ((&*made.snapshot).into(), (&*made.cost).into());
                return json::text(&json::Snapshotted { snapshot, cost }).map(Answer::of);
            }
            let title = units::clean(&show::title(&made.snapshot, &look.namespace));
            Ok(Answer { note: show::cost(&made.cost), ..Answer::of(title + "\n") })
        }
        Verb::Fork { reference, name, count, no_start } => {
            let made = client.fork(reference, name, count, no_start).await?;
            forked(&made, json, look)
        }
        Verb::Clone { reference, name, no_start } => {
            let made = client.clone_snapshot(reference, name, no_start).await?;
            cloned(&made, json, look)
        }
        Verb::Completion { shell } => Ok(Answer::of(completion(shell))),
    }
}

fn forked(made: &ForkResponse, json: bool, look: &Look) -> Result<Answer, Failure> {
    let out = if json {
        let forks = made.forks.iter().map(Into::into).collect();
        json::text(&json::Forks { forks, cost: (&*made.cost).into() })?
    } else {
        show::forks(look, made.forks.iter())
    };
    let failures = made.forks.iter().filter_map(not_made).collect();
    Ok(Answer { out, note: show::cost(&made.cost), failures })
}

fn cloned(made: &CloneResponse, json: bool, look: &Look) -> Result<Answer, Failure> {
    let out = if json {
        json::text(&json::Cloned { clone: (&*made.clone).into(), cost: (&*made.cost).into() })?
    } else {
        show::forks(look, std::iter::once(&*made.clone))
    };
    let failures = not_made(&made.clone).into_iter().collect();
    Ok(Answer { out, note: show::cost(&made.cost), failures })
}

/// What loomd says of a single fork; it gives no code for it.
fn not_made(fork: &Forked) -> Option<Failure> {
    let message = format!("{}: {}", fork.container, fork.error);
    (!fork.error.is_empty()).then(|| Failure::new(Code::UNKNOWN, message))
}

/// One that cannot be removed does not keep the others from it.
async fn remove(client: &Client, references: Vec<String>, json: bool) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    let mut removed = Vec::new();
    for reference in references {
        match client.remove(reference.clone()).await {
            Ok(()) => removed.push(reference),
            Err(failure) => answer.failures.push(failure),
        }
    }
    answer.out = if json {
        let objects = removed.iter().map(|reference| json::Removed { reference, removed: true });
        json::text(&objects.collect::<Vec<_>>())?
    } else {
        removed.into_iter().map(|reference| reference + "\n").collect()
    };
    Ok(answer)
}

/// The completions of `shell`, as they lie in `contrib/completions`.
fn completion(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "loom", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
