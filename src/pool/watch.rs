//! The thread that keeps an image ahead of what is written to it.
//!
//! It looks the more often the less is left, so that no writer gets there first, and every other second at most where
//! nobody writes. It ends with the pool.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::image::Image;
use super::record::Kind;
use super::shared::Shared;
use super::space::{self, Host, Space, Step};
use super::{Made, Pool};
use crate::error::{Error, Result};

/// How long after a step that failed, or that the host had no room for, it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long nothing is to be written before an image gives something back, and between two times.
const QUIET: Duration = Duration::from_secs(15);

/// Wakes the thread before its time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Alarm {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    /// Waits until it rings, at most so long.
    fn wait(&self, time: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(rung, time, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What the thread remembers from one look to the next.
#[derive(Debug)]
struct Memory {
    /// What was free, and since when it has been about that.
    free: u64,
    since: Instant,
    /// What was wrong, so that it is told once.
    wrong: Option<String>,
    shared: Shared,
}

impl Memory {
    /// Tells what is wrong, and that it is not any more, once each.
    fn tell(&mut self, wrong: Option<String>) {
        if self.wrong == wrong {
            return;
        }
        if let Some(why) = &wrong {
            tracing::warn!("the pool does not grow: {why}");
        } else {
            tracing::warn!("the pool can grow again");
        }
        self.wrong = wrong;
    }

    /// How long about so much has been free.
    fn quiet(&mut self, free: u64) -> Duration {
        if self.free.abs_diff(free) > 16 << 20 {
            (self.free, self.since) = (free, Instant::now());
        }
        self.since.elapsed()
    }
}

/// Starts the thread.
pub(super) fn start(pool: &Arc<Pool>) -> Result<()> {
    let (weak, alarm) = (Arc::downgrade(pool), Arc::clone(&pool.alarm));
    let spawned = std::thread::Builder::new().name("pool".to_owned()).spawn(move || {
        let mut memory = Memory { free: 0, since: Instant::now(), wrong: None, shared: Shared::default() };
        while let Some(wait) = look(&weak, &mut memory) {
            alarm.wait(wait);
        }
    });
    spawned.map(drop).map_err(Error::io("start a thread for", &pool.root))
}

/// Looks once; answers when to look again, and none when the pool is gone.
fn look(pool: &Weak<Pool>, memory: &mut Memory) -> Option<Duration> {
    let pool = pool.upgrade()?;
    let made = pool.made()?;
    Some(tend(&pool, &made, memory).unwrap_or_else(|error| {
        memory.tell(Some(error.to_string()));
        AGAIN
    }))
}

/// Gives the image what it needs, or takes what it does not.
fn tend(pool: &Pool, made: &Made, memory: &mut Memory) -> Result<Duration> {
    let Kind::Image { size } = made.kind else { return Ok(QUIET) };
    let _changing = pool.changing();
    let look = || -> Result<Space> { space::of(&made.on).map_err(Error::io("inspect pool", &made.path)) };
    let (space, host, image) = (look()?, pool.host()?, Image::of(&pool.root));
    if image.allocated()? < space.span {
        image.fill();
    }
    let (owed, goes_on) = memory.shared.step(&image, host);
    pool.owed.store(owed, Ordering::Relaxed);
    let quiet = memory.quiet(space.free());
    match space.step(size, Host { owed, ..host }.room()) {
        Step::Grow(to) => image.grow(&made.path, to)?,
        Step::Shrink(to) if quiet >= QUIET => {
            image.shrink(&made.path, to)?;
            memory.since = Instant::now();
        }
        Step::Short => {
            memory.tell(Some(pool.refuses().unwrap_or_else(|| "its host keeps its reserve".to_owned())));
            return Ok(AGAIN);
        }
        Step::Stay | Step::Shrink(_) => {}
    }
    memory.tell(None);
    Ok(if goes_on { Duration::ZERO } else { look()?.look_again() })
}
