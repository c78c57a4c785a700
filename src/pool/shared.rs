//! What of an image another file has too: somebody has copied it by reference, or made a snapshot of the filesystem
//! that it lies on.
//!
//! The first write to such a byte takes a new one of the host, so what the host had given to the image is no promise
//! any more. Where the host can, each byte gets a place of the image's own again (`FALLOC_FL_UNSHARE_RANGE`), a part
//! at a time, since writes to the image wait meanwhile. Until then, and where it cannot, so much of the host is kept
//! free beside its reserve.

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::image::Image;
use super::space::Host;
use crate::bytes::about;
use crate::error::{Error, Result};
use crate::layer::ioctl;

/// The time between two looks for them.
const LOOKS: Duration = Duration::from_secs(15);
/// The bytes that get a place at once.
const PART: u64 = 64 << 20;

/// What the thread of the pool knows of them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    looked: Option<Instant>,
    /// What they were then.
    bytes: u64,
    /// Up to where the image has been given places of its own, while that is under way.
    own: Option<u64>,
    /// The host cannot.
    fixed: bool,
    /// What was wrong at the last step, so that it is told once.
    wrong: Option<String>,
}

impl Shared {
    /// Does a step, if one is due. Answers the bytes that the image owes to its host, and whether the next step is to
    /// follow at once. What cannot be found out is told, and changes nothing.
    pub(super) fn step(&mut self, image: &Image, host: Host) -> (u64, bool) {
        let wrong = self.try_step(image, host).err().map(|error| error.to_string());
        if let Some(why) = wrong.as_ref().filter(|_| self.wrong != wrong) {
            tracing::warn!("whether others share the pool's image is not known: {why}");
        }
        self.wrong = wrong;
        (self.bytes, self.own.is_some())
    }

    fn try_step(&mut self, image: &Image, host: Host) -> Result<()> {
        if self.own.is_none() && self.looked.is_none_or(|at| at.elapsed() >= LOOKS) {
            self.look(image)?;
            let room = Host { owed: 0, ..host }.room();
            self.own = (!self.fixed && self.bytes > 0 && room >= self.bytes).then_some(0);
        }
        // Where it fails, what is left is seen at the next look.
        if let Some(from) = self.own.take() {
            self.own = self.part(image, from)?;
            if self.own.is_none() {
                self.look(image)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, image: &Image) -> Result<()> {
        self.looked = Some(Instant::now());
        let before = std::mem::replace(&mut self.bytes, image.shared()?);
        let file = image.file().display();
        if before == 0 && self.bytes > 0 {
            tracing::warn!(
                "{} of {file} are another file's too (a copy by reference, or a snapshot of the filesystem): so much of \
                 its host is kept free, since the first write to each takes a new one",
                about(self.bytes)
            );
        } else if before > 0 && self.bytes == 0 {
            tracing::warn!("{file} is nobody else's any more");
        }
        Ok(())
    }

    /// Gives a part of the image a place of its own; answers where the next begins, and none where there is none.
    fn part(&mut self, image: &Image, from: u64) -> Result<Option<u64>> {
        match unshare(&image.open()?, from) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.fixed = true;
                Ok(None)
            }
            Err(Errno::NOSPC) => Ok(None),
            done => done.map_err(Error::io("unshare", image.file())),
        }
    }
}

impl Image {
    /// The bytes of it that another file has too; none where its filesystem does not tell.
    fn shared(&self) -> Result<u64> {
        let file = self.open()?;
        let mut bytes = 0;
        match ioctl::shared_extents(&file, || true, |_, length| bytes += length) {
            Ok(_) => Ok(bytes),
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => Ok(0),
            Err(e) => Err(Error::io("inspect", self.file())(e)),
        }
    }
}

/// Gives a part of a file from there on a place of its own; answers where it ends, and none at the end of the file.
fn unshare(file: &File, from: u64) -> rustix::io::Result<Option<u64>> {
    let long = rustix::fs::fstat(file)?.st_size.cast_unsigned();
    let part = PART.min(long.saturating_sub(from));
    if part == 0 {
        return Ok(None);
    }
    rustix::fs::fallocate(file, FallocateFlags::UNSHARE_RANGE, from, part)?;
    Ok(Some(from + part))
}
