//! Archive: a committed state as a tar. Its layers stay while they are read, whoever removes what stands on them.

use super::Snapshots;
use crate::error::{Error, Result};
use crate::store::Layer;

impl Snapshots {
    /// Writes what the topmost `count` layers of a committed snapshot's chain make of those below, as
    /// [`crate::layer::Layers::archive`] does.
    pub fn archive(
        &self,
        chain: &[Layer],
        count: usize,
        to: &mut dyn std::io::Write,
        tell: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let gone = || {
            let top = chain.first().map(|top| top.id.to_string());
            Error::SnapshotNotFound(format!("on layer {}", top.unwrap_or_default()))
        };
        let _reading = self.read_layers(chain)?.ok_or_else(gone)?;
        self.layers.archive(chain, count, to, tell)
    }
}
