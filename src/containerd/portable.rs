//! Portable: what of an image is this node's alone is written as a layer of the OCI.

use super::leases::Lease;
use super::{Brancher, Compression, Options, Portable, Target};
use crate::error::Result;
use crate::operation::Work;
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

    /// The same within another operation, which has a lease and undoes what it made.
    pub(super) async fn make_portable(
        &self,
        work: &Work,
        lease: &Lease,
        image: &str,
        compression: Compression,
    ) -> Result<Portable> {
        let _ = (work, lease, image, compression);
        todo!()
    }
}
