//! `loom limit`.

use super::args::{Limit, Most};
use super::units::{bytes, clean};
use super::{Answer, Failure, Run, json};
use crate::protos::admin::{LimitRequest, LimitResponse};

impl Run<'_> {
    pub(super) async fn limit(&mut self, args: Limit) -> Result<Answer, Failure> {
        let most = match args.bytes {
            Most::Bytes(bytes) => bytes,
            Most::None => 0,
        };
        let request = LimitRequest { reference: args.reference.clone(), bytes: most, ..Default::default() };
        let limited = self.client.limit(request).await?;
        if self.json {
            return json::answer(&json::Limited::from(&limited));
        }
        Ok(Answer { note: note(&limited), ..Answer::of(clean(&args.reference) + "\n") })
    }
}

/// What the limit means for what was written already.
fn note(limited: &LimitResponse) -> String {
    let LimitResponse { bytes: most, written, .. } = limited;
    match (*most, *written) {
        (0, _) => "no limit\n".to_owned(),
        (most, written) if written > most => format!(
            "it has written {} already, more than {}: it can write nothing until it has deleted enough\n",
            bytes(written),
            bytes(most)
        ),
        (most, written) => format!("it has written {} of {}\n", bytes(written), bytes(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_is_said() {
        let note = |most, written| note(&LimitResponse { bytes: most, written, ..LimitResponse::default() });
        assert_eq!(note(0, 7), "no limit\n");
        assert_eq!(note(10_000_000, 2_000_000), "it has written 2.0 MB of 10 MB\n");
        assert!(note(1_000_000, 2_000_000).contains("can write nothing until"));
    }
}
