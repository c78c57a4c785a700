//! Portable: what of an image is this node's alone is written as a layer of the OCI.

use super::{Brancher, Compression, Options, Portable, Target};
use crate::error::Result;
use crate::store::Id;

impl Brancher {
    /// Writes the layer, has the image refer to it, and answers the operation too.
    pub async fn portable(
        &self,
        target: &Target,
        image: &str,
        compression: Compression,
        options: Options,
    ) -> Result<(Id, Portable)> {
        let _ = (target, image, compression, options);
        todo!()
    }
}
