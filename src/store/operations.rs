//! The statements about operations.

use rusqlite::params;

use super::columns::{self, operation_columns};
use super::failed;
use super::record::{Id, Operation, Time};
use super::rows::Rows;
use crate::error::Result;

/// A query for operations.
macro_rules! operations {
    ($rest:literal) => {
        concat!("SELECT ", operation_columns!(), " FROM operations ", $rest)
    };
}

impl Rows<'_> {
    /// By id.
    pub fn operation(&self, id: Id) -> Result<Option<Operation>> {
        self.one(operations!("WHERE id = ?1"), [id], columns::operation)
    }

    /// Those whose id begins so, in the order of ids.
    pub fn operations_by_prefix(&self, prefix: &str) -> Result<Vec<Operation>> {
        self.many(operations!("WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id"), [prefix], columns::operation)
    }

    /// The one that has this idempotency key: under way, or succeeded.
    pub fn operation_by_key(&self, key: &str) -> Result<Option<Operation>> {
        self.one(
            operations!("WHERE key = ?1 AND state NOT IN ('failed', 'cancelled')"),
            [key],
            columns::operation,
        )
    }

    /// The newest, at most `limit`, newest first.
    pub fn operations(&self, limit: usize) -> Result<Vec<Operation>> {
        self.many(
            operations!("ORDER BY created DESC, id LIMIT ?1"),
            [i64::try_from(limit).unwrap_or(i64::MAX)],
            columns::operation,
        )
    }

    /// Those that have not ended, oldest first.
    pub fn unfinished_operations(&self) -> Result<Vec<Operation>> {
        self.many(
            operations!("WHERE state IN ('accepted', 'running') ORDER BY created, id"),
            [],
            columns::operation,
        )
    }

    /// Writes one, new or changed. The caller has looked that its idempotency key is free.
    pub fn put_operation(&self, operation: &Operation) -> Result<()> {
        let failed = || failed(self.path());
        let steps = columns::to_json(&operation.steps).map_err(failed())?;
        let warnings = columns::to_json(&operation.warnings).map_err(failed())?;
        let error = operation.error.as_ref().map(columns::to_json).transpose().map_err(failed())?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.run(
            concat!(
                "INSERT INTO operations (",
                operation_columns!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
                 ON CONFLICT (id) DO UPDATE SET subject = excluded.subject, state = excluded.state, \
                 done = excluded.done, total = excluded.total, steps = excluded.steps, \
                 warnings = excluded.warnings, error = excluded.error, plan = excluded.plan, \
                 result = excluded.result, ended = excluded.ended"
            ),
            params![
                operation.id,
                operation.kind,
                operation.subject,
                operation.address,
                operation.namespace,
                operation.state,
                number(operation.done),
                number(operation.total),
                steps,
                warnings,
                error,
                operation.key,
                operation.request,
                operation.plan,
                operation.result,
                operation.created,
                operation.ended,
            ],
        )
        .map(drop)
    }

    /// Deletes those that ended before `before`, and the oldest that ended beyond `keep`.
    pub fn forget_operations(&self, before: Time, keep: usize) -> Result<usize> {
        self.run(
            "DELETE FROM operations WHERE ended IS NOT NULL AND (ended < ?1 OR id NOT IN \
             (SELECT id FROM operations ORDER BY created DESC, id LIMIT ?2))",
            params![before, i64::try_from(keep).unwrap_or(i64::MAX)],
        )
    }
}
