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
        let kept = |layer: &Layer| {
            let gone = || Error::SnapshotNotFound(format!("layer {}", layer.id));
            self.read_layer(layer.id)?.map(|(reading, _)| reading).ok_or_else(gone)
        };
        let _reading = chain.iter().map(kept).collect::<Result<Vec<_>>>()?;
        self.layers.archive(chain, count, to, tell)
    }
}
