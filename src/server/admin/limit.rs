//! Limits of what containers write.

use super::{Admin, message};
use crate::error::Error;
use crate::protos::admin::{LimitRequest, LimitResponse};

impl Admin {
    pub(super) async fn limit_container(&self, request: LimitRequest) -> ttrpc::Result<LimitResponse> {
        let LimitRequest { containerd, reference, bytes, .. } = request;
        let max_size = i64::try_from(bytes)
            .map_err(|_| Error::invalid(format!("a limit of {bytes} bytes"), "it is larger than any disk"))?;
        let (seen, limited) = self
            .on(containerd.into_option(), reference, move |core, found| {
                let limited = core.limit(found.id, (max_size > 0).then_some(max_size))?;
                Ok((core.get(found.id)?, limited))
            })
            .await?;
        let known = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        Ok(LimitResponse {
            snapshot: Some(message::snapshot(seen)).into(),
            bytes: known(limited.max_size),
            written: known(limited.written),
            ..Default::default()
        })
    }
}
