//! loomd: reads the configuration, opens the store, serves, drains.
//!
//! One daemon has a root: it holds a lock on `<root>/lock`, which has its pid. On SIGTERM or SIGINT it
//! lets no one in any more, waits for the requests under way and ends. It leaves no container paused;
//! mounts stay as they are, so that containers run on, and a start puts right whatever a crash left.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use loom_snapshotter::config::{Config, Level, Overrides};
use loom_snapshotter::containerd::Brancher;
use loom_snapshotter::error::{Error, Result};
use loom_snapshotter::layer::{Layers, Method, lock};
use loom_snapshotter::operation::Operations;
use loom_snapshotter::pool::Pool;
use loom_snapshotter::server::{Served, Server, Sockets};
use loom_snapshotter::snapshot::{Rules, Snapshots};

/// How long a stop waits for the requests under way.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for what they left behind, and for the database to close.
const GRACE: Duration = Duration::from_secs(2);

/// A containerd snapshotter whose containers can be branched while they run.
#[derive(Debug, Parser)]
#[command(name = "loomd", version)]
struct Args {
    /// The configuration file [default: /etc/loom/config.toml, where there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where snapshots and their layers lie.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where the sockets are.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What is logged to standard error: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Level>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ConfigCommand {
    /// Prints the default configuration.
    Default,
    /// Prints the configuration that loomd would run with.
    Dump,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; there is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "loomd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if let Some(Command::Config(ConfigCommand::Default)) = args.command {
        return print(Config::default_toml());
    }
    let flags = Overrides { root: args.root, state: args.state, log_level: args.log_level };
    let config = Config::load(args.config.as_deref(), |name| std::env::var_os(name), flags)?;
    if let Some(Command::Config(ConfigCommand::Dump)) = args.command {
        return print(&config.to_toml()?);
    }
    log(config.log.level);
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Config("loomd must run as root: it makes layers that containers own".into()));
    }
    // Modes that matter are set one by one; this keeps others from writing to what has a moment before.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    raise_open_files();
    let _lock = lock(&config.root)?;
    let runtime = Runtime::new().map_err(Error::io("start threads for", &config.root))?;
    let served = runtime.block_on(async {
        // First of all, or one that comes meanwhile ends the process in the middle of a step.
        let signals = Signals::catch()?;
        let core = open(&config)?;
        Ok::<_, Error>((serve(&config, &core, signals).await, core))
    });
    // A call that did not end in time is cut off as by a crash, which every step is made for.
    runtime.shutdown_timeout(GRACE);
    let (served, core) = served?;
    Snapshots::close(core, GRACE);
    served
}

/// Prints to standard output; a reader who has gone is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("write", "standard output")(e)),
        _ => Ok(()),
    }
}

/// Logs to standard error: what we say from `level` up, what libraries say only where it is a warning.
fn log(level: Level) {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let wanted = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets([("loomd", level), ("loom_snapshotter", level)]);
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry().with(to_stderr).with(wanted).init();
}

/// Raises the limit of open files as far as it may be. Walking a tree and every client take some.
fn raise_open_files() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// From an open store to a drained one.
async fn serve(config: &Config, core: &Arc<Snapshots>, mut signals: Signals) -> Result<()> {
    let sockets = Sockets::open(&config.state).await?;
    let operations = Operations::open(Arc::clone(core.store()))?;
    let brancher = Arc::new(Brancher::new(Arc::clone(core), Arc::clone(&operations)));
    let containerd = config.containerd.address.to_string_lossy().into_owned();
    core.freeze_with(brancher.freezers(&containerd));
    let served = Served {
        core: Arc::clone(core),
        operations,
        brancher: Arc::clone(&brancher),
        containerd: containerd.clone(),
    };
    let mut doors = Server::start(sockets, served).await?;
    let (left, kept) = (Arc::clone(&brancher), Arc::clone(&brancher));
    let address = containerd.clone();
    tokio::spawn(async move {
        left.thaw_left().await;
        left.recover(&containerd).await;
    });
    // Not behind the others: loom's own snapshots expire without a containerd, too.
    tokio::spawn(async move { kept.expire(&address).await });
    let status = format!("serving {} on {}", config.root.display(), config.state.display());
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    tracing::info!("{status}");
    if let Some(period) = sd_notify::watchdog_enabled() {
        tokio::spawn(watchdog(Arc::clone(core), period / 2));
    }
    let ended = tokio::select! {
        name = signals.stop() => {
            tracing::info!("{name}: stopping");
            Ok(())
        }
        error = doors.fails() => Err(error),
    };
    tell(&[NotifyState::Stopping]);
    match doors.stop(PATIENCE).await {
        0 => {}
        left => tracing::warn!("{left} requests did not end within {PATIENCE:?}"),
    }
    if tokio::time::timeout(PATIENCE, brancher.cut_off()).await.is_err() {
        tracing::error!(
            "containers that loom paused may stay so until it starts again: containerd is silent"
        );
    }
    ended
}

/// Opens what is served.
fn open(config: &Config) -> Result<Arc<Snapshots>> {
    // The pool first: while it is missing the database is not even opened.
    let pool = Pool::open(&config.root, &config.pool)?;
    let layers = Layers::open(&config.root, pool.path().as_deref())?;
    let store = Snapshots::open_store(&layers)?;
    let limit = config.limit.default.map(|bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX));
    let flat_depth = usize::from(config.flat.depth);
    let rules = Rules { deny_fork_label: config.fork_label.deny.clone(), flat_depth, limit };
    let core = Snapshots::open(store, layers, rules)?;
    core.keep_in(pool);
    if let Some(size) = config.pool.size {
        core.want_pool(size);
    }
    core.check_default_limit()?;
    if let (Method::Copy, why) = core.how() {
        tracing::warn!("forks will copy: {why}");
    }
    Ok(core)
}

/// The signals that loomd does not die of.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Nothing is read anew on SIGHUP; a terminal that closes must not end the daemon.
    _hangup: Signal,
}

impl Signals {
    fn catch() -> Result<Self> {
        let catch = |kind| signal(kind).map_err(|e| Error::Config(format!("cannot catch signals: {e}")));
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            _hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for one that ends the daemon; answers its name.
    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tells systemd, where it asked to be told, as long as the core answers.
async fn watchdog(core: Arc<Snapshots>, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        let core = Arc::clone(&core);
        // Whatever it answers: a full disk is not mended by a restart. Only silence is a reason.
        if tokio::task::spawn_blocking(move || core.counts().is_ok()).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Tells systemd, where it started us.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
