//! How full a pool is, and what an image is to be given or to give back.
//!
//! What a btrfs has left is what it has not parted out, and what is free in the parts for data. That counts what was
//! written to memory only, which statfs does not: the space for it is taken at once.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::{FULL, RESERVE, mount};
use crate::layer::ioctl;

/// An image gets more when it has less than this left ...
const AHEAD: u64 = 1 << 30;
/// ... so much that it has this more; and gives back so much at once.
const STEP: u64 = 1 << 30;
/// The least that is worth a step.
const GRAIN: u64 = 64 << 20;
/// Metadata that has less than this left needs a new part, for which so much is to be unparted.
const METADATA: (u64, u64) = (48 << 20, 512 << 20);
/// The fastest that anybody writes, in bytes a second: how long it takes to eat up what is left.
const FASTEST: u64 = 2 << 30;
/// The time between two looks, at least and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What a btrfs on one device has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// What it spans.
    pub(super) span: u64,
    /// What of that is neither data's nor metadata's.
    pub(super) unparted: u64,
    /// What is free of what is data's ...
    pub(super) data: u64,
    /// ... and of what is metadata's.
    pub(super) metadata: u64,
}

/// What statfs says, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) size: u64,
    pub(super) used: u64,
    pub(super) free: u64,
}

/// The filesystem that an image lies on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    /// What it has left.
    pub(super) free: u64,
    /// What it is to keep.
    pub(super) reserve: u64,
    /// What it is to keep beside that, for bytes of the image that another file has too.
    pub(super) owed: u64,
}

/// What is to be done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// It is to span so much more ahead of what is written.
    Grow(u64),
    /// It can span so much only.
    Shrink(u64),
    /// It is to have more, and the host has none to give.
    Short,
}

impl Host {
    /// What it has beside all that it is to keep.
    pub(super) fn room(&self) -> u64 {
        self.free.saturating_sub(self.reserve).saturating_sub(self.owed)
    }
}

impl Space {
    /// What can be written to it.
    pub(super) fn free(&self) -> u64 {
        self.unparted + self.data
    }

    /// What to do with an image of this space that may grow to `size`, on a host that has `room` beside its reserve.
    pub(super) fn step(&self, size: u64, room: u64) -> Step {
        let starved = self.metadata < METADATA.0 && self.unparted < METADATA.1;
        if self.span < size && (self.free() < AHEAD || starved) {
            let more = (AHEAD + STEP).saturating_sub(self.free());
            let more = if starved { more.max(METADATA.1 - self.unparted) } else { more };
            let more = more.next_multiple_of(GRAIN).min(size - self.span);
            let given = if more <= room { more } else { room / GRAIN * GRAIN };
            return if given == 0 { Step::Short } else { Step::Grow(self.span + given) };
        }
        // Far enough from where it grows that the two do not take turns.
        if self.unparted > AHEAD + 3 * STEP { Step::Shrink(self.span - STEP) } else { Step::Stay }
    }

    /// True where next to nothing is left, and no more will come: it has all that it may, or its host has no `room`.
    pub(super) fn is_full(&self, size: u64, room: u64) -> bool {
        self.free() < FULL && (self.span >= size || room < GRAIN)
    }

    /// When to look again: before the fastest writer has taken half of what is left.
    pub(super) fn look_again(&self) -> Duration {
        let half = Duration::from_millis(self.free() * 500 / FASTEST);
        half.clamp(LOOKS.0, LOOKS.1)
    }
}

/// What an image that may grow to `size` spans at first, on a host that has `room` beside its reserve.
pub(super) fn first(size: u64, room: u64) -> u64 {
    let span = size.min(AHEAD + STEP).min(room);
    span / GRAIN * GRAIN
}

/// The size that an image may really grow to: its filesystem spans whole parts only.
pub(super) fn whole(size: u64) -> u64 {
    size / GRAIN * GRAIN
}

/// The space of a btrfs on one device.
pub(super) fn of(on: impl AsFd) -> io::Result<Space> {
    let (device, uuid) = (ioctl::btrfs_device(&on)?, ioctl::btrfs_uuid(&on)?);
    let parts = Path::new("/sys/fs/btrfs").join(mount::text(&uuid)).join("allocation");
    let free = |part: &str| -> io::Result<u64> {
        let read = |what: &str| -> io::Result<u64> {
            let text = fs::read_to_string(parts.join(part).join(what))?;
            text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        let taken = ["bytes_used", "bytes_pinned", "bytes_reserved", "bytes_may_use", "bytes_readonly"];
        let total = read("total_bytes")?;
        taken.into_iter().try_fold(total, |left, what| Ok(left.saturating_sub(read(what)?)))
    };
    Ok(Space {
        span: device.span,
        unparted: device.span.saturating_sub(device.parted),
        data: free("data")?,
        metadata: free("metadata")?,
    })
}

/// What statfs says of a filesystem.
pub(super) fn held(on: impl AsFd) -> io::Result<Held> {
    let stat = rustix::fs::fstatvfs(on)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Held {
        size: bytes(stat.f_blocks),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        free: bytes(stat.f_bavail),
    })
}

/// The filesystem that `root` lies on; the reserve is this, or what is usual.
pub(super) fn host(root: &Path, reserve: Option<u64>, owed: u64) -> io::Result<Host> {
    let stat = rustix::fs::statvfs(root)?;
    let size = stat.f_blocks.saturating_mul(stat.f_frsize);
    Ok(Host {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        reserve: reserve.unwrap_or(RESERVE.min(size / 10)),
        owed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const PLENTY: u64 = 1 << 40;

    fn space(span: u64, unparted: u64, data: u64) -> Space {
        Space { span, unparted, data, metadata: 200 * MIB }
    }

    #[test]
    fn an_image_grows_before_it_is_full_and_no_further_than_it_may() {
        assert_eq!(space(2 * GIB, GIB, 0).step(50 * GIB, PLENTY), Step::Stay);
        assert_eq!(space(2 * GIB, GIB - 1, 0).step(50 * GIB, PLENTY), Step::Grow(2 * GIB + GIB + 64 * MIB));
        assert_eq!(space(2 * GIB, 0, 0).step(50 * GIB, PLENTY), Step::Grow(4 * GIB));
        assert_eq!(space(2 * GIB, 0, 0).step(3 * GIB + 5, PLENTY), Step::Grow(3 * GIB + 5));
        assert_eq!(space(2 * GIB, 0, 0).step(2 * GIB, PLENTY), Step::Stay);
        // What is written to memory is taken too, wherever it will lie.
        assert_eq!(space(2 * GIB, 500 * MIB, 600 * MIB).step(50 * GIB, PLENTY), Step::Stay);
    }

    #[test]
    fn it_takes_what_its_host_can_spare_and_no_more() {
        let full = space(2 * GIB, 0, 0);
        assert_eq!(full.step(50 * GIB, 300 * MIB), Step::Grow(2 * GIB + 256 * MIB));
        assert_eq!(full.step(50 * GIB, 64 * MIB), Step::Grow(2 * GIB + 64 * MIB));
        assert_eq!(full.step(50 * GIB, 63 * MIB), Step::Short);
        assert_eq!(full.step(50 * GIB, 0), Step::Short);
    }

    #[test]
    fn metadata_has_room_for_a_new_part() {
        let mut data_is_free = space(20 * GIB, 0, 8 * GIB);
        assert_eq!(data_is_free.step(50 * GIB, PLENTY), Step::Stay);
        data_is_free.metadata = 10 * MIB;
        assert_eq!(data_is_free.step(50 * GIB, PLENTY), Step::Grow(20 * GIB + 512 * MIB));
    }

    #[test]
    fn what_is_not_needed_goes_back_and_does_not_come_again_at_once() {
        let mut idle = space(20 * GIB, 18 * GIB, 0);
        let mut steps = 0;
        while let Step::Shrink(to) = idle.step(50 * GIB, PLENTY) {
            (idle.unparted, idle.span) = (idle.unparted - (idle.span - to), to);
            steps += 1;
        }
        assert_eq!((steps, idle.step(50 * GIB, PLENTY)), (14, Step::Stay));
        assert!(idle.free() >= AHEAD + 2 * STEP);
    }

    #[test]
    fn a_look_comes_before_the_fastest_writer_is_through() {
        for (free, millis) in [(0, 50), (GIB, 250), (2 * GIB, 500), (100 * GIB, 2000)] {
            assert_eq!(space(200 * GIB, free, 0).look_again(), Duration::from_millis(millis));
        }
    }

    #[test]
    fn a_first_image_is_what_fits() {
        assert_eq!(first(50 * GIB, PLENTY), 2 * GIB);
        assert_eq!(first(GIB, PLENTY), GIB);
        assert_eq!(first(50 * GIB, 500 * MIB), 448 * MIB);
    }
}
