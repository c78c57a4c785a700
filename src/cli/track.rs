//! A branch while it is under way: a line of progress for a person who waits, and Ctrl-C.
//!
//! The first Ctrl-C asks loomd to cancel the operation and waits for what comes of that; the second leaves.
//! Either way loomd finishes or undoes what it has begun.

use std::pin::pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use futures::{FutureExt as _, future};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::Code;

use super::client::{Client, Exit, Failure};
use super::operations::progress;

/// How long a branch may take before there is a line about it.
const QUICK: Duration = Duration::from_secs(1);
/// Between two tries to cancel an operation that loomd has not accepted yet.
const RETRY: Duration = Duration::from_millis(100);
/// Between two drawings of the line.
const TICK: Duration = Duration::from_millis(100);

/// Ctrl-C, each time. Only from when someone waits for it does it not end this process.
pub(super) fn interrupts() -> impl Stream<Item = ()> + Send {
    let caught = stream::once(async { signal(SignalKind::interrupt()) });
    // Where it cannot be caught, it ends this process as it would anyway.
    caught.filter_map(|caught| future::ready(caught.ok())).flat_map(|caught| {
        stream::unfold(caught, |mut caught| async { caught.recv().await.map(|()| ((), caught)) }).boxed()
    })
}

/// Waits for a branch whose operation has this id.
pub(super) async fn track<T>(
    client: &Client,
    operation: &str,
    line: &Line,
    interrupts: impl Stream<Item = ()>,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut interrupts = pin!(interrupts.fuse());
    let (mut call, mut cancelled) = (pin!(call), pin!(future::Fuse::terminated()));
    let mut follow = pin!(line.follow(client, operation).fuse());
    let mut called_off = false;
    loop {
        futures::select_biased! {
            done = call.as_mut().fuse() => {
                // Whatever it was refused with, the person has called it off.
                return done.map_err(|error| if called_off { error.exits(Exit::Failed) } else { error });
            }
            interrupt = interrupts.next() => match interrupt {
                Some(()) if called_off => {
                    let message = format!("left; loomd finishes or undoes it: `loom operation {operation}`");
                    return Err(Failure::new(Code::CANCELLED, message).exits(Exit::Interrupted));
                }
                Some(()) => {
                    called_off = true;
                    line.say("cancelling; Ctrl-C again does not wait for it");
                    cancelled.set(cancel(client, operation).fuse());
                }
                None => {}
            },
            refused = cancelled => if let Err(refused) = refused {
                line.say(&refused.message);
            },
            () = follow => {}
        }
    }
}

/// Cancels an operation, which loomd may not have accepted yet.
async fn cancel(client: &Client, operation: &str) -> Result<(), Failure> {
    loop {
        match client.cancel(operation.to_owned()).await {
            Err(refused) if refused.code == Code::NOT_FOUND => tokio::time::sleep(RETRY).await,
            answer => return answer.map(drop),
        }
    }
}

/// The line on standard error about what is under way; it is gone when this is.
#[derive(Debug)]
pub(super) struct Line {
    bar: ProgressBar,
    /// Nothing but results and errors is wanted.
    quiet: bool,
}

impl Line {
    /// None yet; and none at all where `quiet`, or where standard error is no terminal.
    pub(super) fn new(quiet: bool) -> Self {
        Self { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), quiet }
    }

    /// Draws the line for a branch that takes its time, as long as it is polled.
    async fn follow(&self, client: &Client, operation: &str) {
        tokio::time::sleep(QUICK).await;
        if self.quiet {
            return;
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            self.bar.set_style(style);
        }
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(TICK);
        // A repeated request has another operation's answer, and there is nothing to tell of this one.
        let Ok(mut watch) = client.watch(operation.to_owned()).await else { return };
        while let Ok(Some(change)) = watch.next().await {
            self.bar.set_message(progress(&change));
        }
    }

    /// Tells what is no result and no error.
    fn say(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("loom: {}", super::units::clean(text)));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
