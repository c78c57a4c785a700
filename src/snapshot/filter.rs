//! containerd's filter language.

use super::Listed;
use crate::error::Result;

/// Several filters, any of which may let a snapshot through; none lets every one through.
#[derive(Debug, Clone, Default)]
pub struct Filters {}

impl Filters {
    /// Reads filters as containerd's clients write them.
    pub fn parse(filters: &[String]) -> Result<Self> {
        todo!()
    }

    /// True where a filter lets it through.
    pub fn matches(&self, listed: &Listed) -> bool {
        todo!()
    }
}
