//! The `loom` command: its verbs, and what they print.
//!
//! A run goes one way: [`args`] reads the command line, `ask` makes a request of it, `client` asks loomd,
//! `show`, `tree` and `json` turn the answer into text, and this file writes it and ends with an [`Exit`].
//! Results go to standard output and everything else to standard error, so that a pipe gets results only.
//!
//! A verb that branches is an operation of loomd's (`branch`), which can be watched and called off while it
//! is under way (`track`); `operations` are the verbs about those. `pool`, `image`, `archive` and `diff` are the verbs about
//! the pool, images, archives and differences.

mod archive;
pub mod args;
mod ask;
mod branch;
mod check;
mod client;
mod df;
mod diff;
mod help;
mod image;
mod json;
mod limit;
mod operations;
mod pool;
mod show;
mod table;
mod track;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use ttrpc::Code;

use self::args::{Args, Drawing, Prune, Verb};
pub use self::client::{Client, Exit, Failure};
use self::show::Look;

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

/// What a verb has beside its arguments.
struct Run<'a> {
    client: Client,
    json: bool,
    look: Look,
    /// Standard output, for a verb that prints as it goes.
    out: &'a mut dyn Write,
    /// Each Ctrl-C. A branch takes them while it is waited for.
    interrupts: Mutex<BoxStream<'static, ()>>,
}

/// Runs the command line of this process to its exit code.
pub fn main() -> ExitCode {
    let interrupts = track::interrupts().boxed();
    run(std::env::args_os().collect(), &mut io::stdout(), &mut io::stderr(), interrupts).into()
}

fn run(
    words: Vec<OsString>,
    out: &mut impl Write,
    err: &mut impl Write,
    interrupts: BoxStream<'static, ()>,
) -> Exit {
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(error) => return usage(&error, json, err),
    };
    let json = args.global.json;
    let mut answer = match answer(args, out, interrupts) {
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

fn answer(args: Args, out: &mut impl Write, interrupts: BoxStream<'static, ()>) -> Result<Answer, Failure> {
    if let Verb::Completion { shell } = args.verb {
        return Ok(Answer::of(completion(shell)));
    }
    let look = Look::of_stdout(&args.global.namespace);
    if let Verb::Check(check) = &args.verb
        && check.root.is_some()
    {
        return check::of_root(check, &look, args.global.json);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::INTERNAL, format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let mut run = Run {
            client: Client::connect(&args.global).await?,
            json: args.global.json,
            look,
            out,
            interrupts: Mutex::new(interrupts),
        };
        run.verb(args.verb).await
    })
}

impl Run<'_> {
    async fn verb(&mut self, verb: Verb) -> Result<Answer, Failure> {
        let Self { client, json, look, .. } = self;
        let json = *json;
        match verb {
            Verb::Status => {
                let status = client.status().await?;
                if json {
                    return json::answer(&json::Status::from(&status));
                }
                Ok(Answer::of(show::status(look, &status)))
            }
            Verb::Ls { all, quiet } => {
                let snapshots = client.list(all, false).await?;
                match (json, quiet) {
                    (true, _) => json::snapshots(&snapshots).map(Answer::of),
                    (false, true) => Ok(Answer::of(show::ids(&snapshots))),
                    (false, false) => Ok(Answer::of(show::list(look, &snapshots))),
                }
            }
            Verb::Tree { reference, all, format } => {
                let root = match reference {
                    Some(reference) => Some(client.get(reference).await?.id),
                    None => None,
                };
                let snapshots = client.list(true, true).await?;
                let mut forest = tree::Forest::new(&snapshots);
                if let Some(root) = root {
                    forest = forest.below(&root);
                }
                if json {
                    return json::snapshots(forest.in_order()).map(Answer::of);
                }
                Ok(Answer::of(forest.draw(look, format, all)))
            }
            Verb::Lineage { reference, format } => {
                let way = client.lineage(reference).await?;
                if json {
                    return json::snapshots(&way).map(Answer::of);
                }
                Ok(Answer::of(match format {
                    Drawing::Text | Drawing::Json => show::lineage(look, &way),
                    drawn => tree::Forest::new(&way).draw(look, drawn, true),
                }))
            }
            Verb::Inspect { reference } => json::answer(&json::Snapshot::from(&client.get(reference).await?)),
            Verb::Pin { reference } => {
                let snapshot = client.pin(reference).await?;
                if json {
                    return json::answer(&json::Snapshot::from(&snapshot));
                }
                Ok(Answer::of(units::clean(&show::title(&snapshot, &look.namespace)) + "\n"))
            }
            Verb::Unpin { reference } => {
                client.unpin(reference.clone()).await?;
                if json {
                    return json::answer(&json::Unpinned { reference: &reference, pinned: false });
                }
                Ok(Answer::of(reference + "\n"))
            }
            Verb::Rm { references } => remove(client, references, json).await,
            Verb::Prune(args) => prune(client, args, json, look).await,
            Verb::Check(args) => check::running(client, &args, look, json).await,
            Verb::Snapshot(args) => self.snapshot(args).await,
            Verb::Fork(args) => self.fork(args).await,
            Verb::Clone(args) => self.clone_state(args).await,
            Verb::Rollback(args) => self.rollback(args).await,
            Verb::Promote(args) => self.promote(args).await,
            Verb::Resume(args) => self.resume(args).await,
            Verb::Commit(args) => self.commit(args).await,
            Verb::Portable(args) => self.portable(args).await,
            Verb::Images { quiet } => self.images(quiet).await,
            Verb::Tag(args) => self.tag(args).await,
            Verb::Save(args) => self.save(args).await,
            Verb::Push(args) => self.push(args).await,
            Verb::Diff(args) => self.diff(args).await,
            Verb::Export(args) => self.export(args).await,
            Verb::Import(args) => self.import(args).await,
            Verb::Df => self.df().await,
            Verb::Limit(args) => self.limit(args).await,
            Verb::Operations { limit, watch } => self.operations(limit, watch).await,
            Verb::Operation { id, watch } => self.operation(id, watch).await,
            Verb::Cancel { id } => self.cancel(id).await,
            Verb::Pool { verb } => self.pool(verb).await,
            Verb::Completion { shell } => Ok(Answer::of(completion(shell))),
        }
    }
}

/// Removes what fits, and prints it by name.
async fn prune(client: &Client, args: Prune, json: bool, look: &Look) -> Result<Answer, Failure> {
    let dry_run = args.dry_run;
    let snapshots = client.prune(ask::prune(args, look.now)).await?;
    if json {
        let snapshots = snapshots.iter().map(Into::into).collect();
        return json::answer(&json::Pruned { dry_run, snapshots });
    }
    let name = |snapshot| units::clean(&show::title(snapshot, &look.namespace)) + "\n";
    let count = match snapshots.len() {
        1 => "1 snapshot".to_owned(),
        count => format!("{count} snapshots"),
    };
    let note = if dry_run { format!("{count} would be removed\n") } else { format!("{count} removed\n") };
    Ok(Answer { note, ..Answer::of(snapshots.iter().map(name).collect::<String>()) })
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
