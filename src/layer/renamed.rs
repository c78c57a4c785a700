//! Plain layers that are sealed as they lie: renamed first, so that no mount that was told before can begin.

use std::os::fd::AsFd;

use super::{Layers, Manifest, mounted, quota};
use crate::error::{Error, Result};
use crate::store::{Home, Layer, LayerId};

impl Layers {
    /// True where a plain layer that nothing writes to can be sealed as it lies.
    pub fn seals(&self) -> bool {
        self.probe.is_some()
    }

    /// True where nothing is in a layer.
    pub fn is_empty(&self, layer: &Layer) -> Result<bool> {
        self.area(layer.home)?.is_empty(layer.id)
    }

    /// Gives the directory of the plain layer `was` the name of `layer`: mounts that were told before fail from
    /// now on. True where it is still mounted to be written to, or may be: it is to be renamed back then.
    pub fn rename(&self, was: LayerId, layer: LayerId) -> Result<bool> {
        self.plain.rename(was, layer)?;
        self.is_written(layer, was)
    }

    /// Seals a layer that was renamed, as `seal`, unless something writes to it by now; then it is false.
    pub fn seal_renamed(&self, layer: LayerId, was: LayerId, manifest: &Manifest) -> Result<bool> {
        if manifest.max_size.is_some() {
            // It may be full, and its seal takes some bytes.
            quota::limit(&self.plain, layer, None)?;
        }
        self.plain.write_seal(layer, manifest)?;
        // Whoever was on its way to mount it when it was renamed has done so by now.
        if self.is_written(layer, was)? {
            return Ok(false);
        }
        self.plain.close(layer)?;
        Ok(true)
    }

    /// Undoes a `rename`, durably, whether it happened or not, and a seal behind it. The layer may be mounted.
    pub fn rename_back(&self, layer: LayerId, was: LayerId) -> Result<()> {
        match self.plain.reopen(layer) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            reopened => reopened.and_then(|()| self.plain.rename(layer, was))?,
        }
        self.plain.settle()
    }

    fn is_written(&self, layer: LayerId, was: LayerId) -> Result<bool> {
        let Some(probe) = &self.probe else { return Ok(true) };
        let (fs, was) = (self.fs(Home::Plain, layer), self.fs(Home::Plain, was));
        if mounted::to_write(&fs, &was)? {
            return Ok(true);
        }
        let written = self.plain.written(layer)?;
        probe.in_use(&written.iter().map(AsFd::as_fd).collect::<Vec<_>>())
    }
}
