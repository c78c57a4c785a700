//! What a record's fields are in a column.

use std::collections::BTreeMap;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Error as SqlError, Row};

use super::record::{
    Home, Id, Kind, Layer, LayerId, Operation, OperationKind, OperationState, Pause, Snapshot, Stage, Time,
    Usage,
};

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::from_str(value.as_str()?).map_err(|e| FromSqlError::Other(Box::new(e)))
    }
}

impl ToSql for LayerId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for LayerId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

/// One word a variant, in both directions.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(match self { $(Self::$variant => $word,)+ }.into())
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_str()? {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(FromSqlError::InvalidType),
                }
            }
        }
    };
}

words!(Kind { Active = "active", View = "view", Committed = "committed" });
words!(Home { Plain = "plain", Pool = "pool" });
words!(OperationKind {
    Snapshot = "snapshot",
    Fork = "fork",
    Clone = "clone",
    Rollback = "rollback",
    Promote = "promote",
    Resume = "resume",
    Commit = "commit",
    Portable = "portable",
    Import = "import",
});
words!(OperationState {
    Accepted = "accepted",
    Running = "running",
    Succeeded = "succeeded",
    Failed = "failed",
    Cancelled = "cancelled",
});
words!(Stage { Filling = "filling", Writable = "writable", Sealed = "sealed", Doomed = "doomed" });

/// The columns that [`snapshot`] reads, of a table or alias `s`.
macro_rules! snapshot_columns {
    () => {
        "s.id, s.key, s.name, s.kind, s.parent, s.source, s.layer, s.pinned, s.transient, s.labels, \
         s.created, s.updated, s.captured, s.operation, s.expires, s.taken"
    };
}
pub(super) use snapshot_columns;

/// How many columns [`snapshot_columns`] names: what a query adds comes behind them.
pub(super) const SNAPSHOT_COLUMNS: usize = 16;

/// A snapshot from [`snapshot_columns`].
pub(super) fn snapshot(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    let labels: BTreeMap<String, String> = from_json(9, row.get_ref(9)?.as_str()?)?;
    Ok(Snapshot {
        id: row.get(0)?,
        key: row.get(1)?,
        name: row.get(2)?,
        kind: row.get(3)?,
        parent: row.get(4)?,
        source: row.get(5)?,
        layer: row.get(6)?,
        pinned: row.get(7)?,
        transient: row.get(8)?,
        labels,
        created: row.get(10)?,
        updated: row.get(11)?,
        captured: row.get(12)?,
        operation: row.get(13)?,
        expires: row.get(14)?,
        taken: row.get(15)?,
    })
}

/// The columns that [`layer`] reads, of a table or alias `l`.
macro_rules! layer_columns {
    () => {
        "l.id, l.home, l.base, l.stage, l.size, l.inodes, l.was, l.max_size, l.mapping, l.still, \
         l.merged, l.own_size, l.own_inodes, l.instead_of"
    };
}
pub(super) use layer_columns;

/// A layer from [`layer_columns`].
pub(super) fn layer(row: &Row<'_>) -> rusqlite::Result<Layer> {
    let usage = |size: usize, inodes: usize| -> rusqlite::Result<Option<Usage>> {
        let (size, inodes): (Option<i64>, Option<i64>) = (row.get(size)?, row.get(inodes)?);
        Ok(size.zip(inodes).map(|(size, inodes)| Usage { size, inodes }))
    };
    let instead_of: Option<String> = row.get(13)?;
    let mapping: Option<String> = row.get(8)?;
    Ok(Layer {
        id: row.get(0)?,
        home: row.get(1)?,
        base: row.get(2)?,
        stage: row.get(3)?,
        usage: usage(4, 5)?,
        was: row.get(6)?,
        max_size: row.get(7)?,
        mapping: mapping.map(|json| from_json(8, &json)).transpose()?,
        still: row.get(9)?,
        merged: row.get(10)?,
        own: usage(11, 12)?,
        instead_of: instead_of.map(|json| from_json(13, &json)).transpose()?.unwrap_or_default(),
    })
}

/// A pause from `address, namespace, container, unquiesce`.
pub(super) fn pause(row: &Row<'_>) -> rusqlite::Result<Pause> {
    Ok(Pause { address: row.get(0)?, namespace: row.get(1)?, container: row.get(2)?, unquiesce: row.get(3)? })
}

/// The columns that [`operation`] reads.
macro_rules! operation_columns {
    () => {
        "id, kind, subject, address, namespace, state, done, total, steps, warnings, error, key, request, plan, \
         result, created, ended"
    };
}
pub(super) use operation_columns;

/// An operation from [`operation_columns`].
pub(super) fn operation(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let error: Option<String> = row.get(10)?;
    Ok(Operation {
        id: row.get(0)?,
        kind: row.get(1)?,
        subject: row.get(2)?,
        address: row.get(3)?,
        namespace: row.get(4)?,
        state: row.get(5)?,
        done: count(row, 6)?,
        total: count(row, 7)?,
        steps: from_json(8, row.get_ref(8)?.as_str()?)?,
        warnings: from_json(9, row.get_ref(9)?.as_str()?)?,
        error: error.map(|error| from_json(10, &error)).transpose()?,
        key: row.get(11)?,
        request: row.get(12)?,
        plan: row.get(13)?,
        result: row.get(14)?,
        created: row.get(15)?,
        ended: row.get(16)?,
    })
}

fn from_json<T: serde::de::DeserializeOwned>(column: usize, json: &str) -> rusqlite::Result<T> {
    serde_json::from_str(json)
        .map_err(|e| SqlError::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// A value as a column of JSON has it.
pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| SqlError::ToSqlConversionFailure(Box::new(e)))
}

/// A number of rows.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let count: i64 = row.get(column)?;
    u64::try_from(count).map_err(|_| SqlError::IntegralValueOutOfRange(column, count))
}

/// The namespace and the client key of containerd's keys, `<namespace>/<sequence>/<client key>`; a
/// client key may hold slashes.
pub(super) fn key_parts(key: &str) -> Option<(&str, &str)> {
    let (namespace, rest) = key.split_once('/')?;
    let (sequence, client_key) = rest.split_once('/')?;
    let counted = !sequence.is_empty() && sequence.bytes().all(|b| b.is_ascii_digit());
    (counted && !namespace.is_empty() && !client_key.is_empty()).then_some((namespace, client_key))
}
