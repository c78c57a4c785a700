//! Every statement: what a transaction can ask and change.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, params};

use super::columns::{self, SNAPSHOT_COLUMNS, layer_columns, snapshot_columns};
use super::failed;
use super::record::{Id, Layer, LayerId, Pause, Snapshot, Time};
use crate::error::{Error, Result};

/// More layers than any chain has; a longer one goes round in a circle.
const LONGEST_CHAIN: usize = 10_000;

/// The rows, inside a transaction.
///
/// What a row refers to (parent, source, layer, base) must be there when the row is written, and stays
/// while the row does: layers are inserted before what stands on them and deleted after it.
#[derive(Debug)]
pub struct Rows<'a> {
    conn: &'a Connection,
    path: &'a Path,
}

/// A query for snapshots, from the table `s` on.
macro_rules! snapshots {
    ($rest:literal) => {
        concat!("SELECT ", snapshot_columns!(), " FROM snapshots s ", $rest)
    };
}

/// A query for layers, from the table `l` on.
macro_rules! layers {
    ($rest:literal) => {
        concat!("SELECT ", layer_columns!(), " FROM layers l ", $rest)
    };
}

impl<'a> Rows<'a> {
    /// The file, for errors.
    pub(super) fn path(&self) -> &Path {
        self.path
    }

    /// Inside a transaction of `conn`; `path` is told in errors.
    pub(super) fn new(conn: &'a Connection, path: &'a Path) -> Self {
        Self { conn, path }
    }

    // Snapshots.
    /// By id.
    pub fn snapshot(&self, id: Id) -> Result<Option<Snapshot>> {
        self.one(snapshots!("WHERE s.id = ?1"), [id], columns::snapshot)
    }

    /// By containerd's key.
    pub fn by_key(&self, key: &str) -> Result<Option<Snapshot>> {
        self.one(snapshots!("WHERE s.key = ?1"), [key], columns::snapshot)
    }

    /// By loom's name.
    pub fn by_name(&self, name: &str) -> Result<Option<Snapshot>> {
        self.one(snapshots!("WHERE s.name = ?1"), [name], columns::snapshot)
    }

    /// Those whose id begins so, in the order of ids.
    pub fn by_prefix(&self, prefix: &str) -> Result<Vec<Snapshot>> {
        // An id is hexadecimal, and "g" is behind every digit of it: a range, which the index serves,
        // where a pattern would give a client's `%` a meaning.
        self.many(
            snapshots!("WHERE s.id >= ?1 AND s.id < ?1 || 'g' ORDER BY s.id"),
            [prefix],
            columns::snapshot,
        )
    }

    /// Those whose key is `<namespace>/<sequence>/<client key>`, in the order of sequences.
    pub fn by_client_key(&self, namespace: &str, client_key: &str) -> Result<Vec<Snapshot>> {
        self.many(
            snapshots!("WHERE s.client_key = ?1 AND s.namespace = ?2 ORDER BY length(s.key), s.key"),
            [client_key, namespace],
            columns::snapshot,
        )
    }

    /// Those with a key, in the order of keys, behind `after`, at most `limit`, each with its parent's key
    /// (None where it has none or the parent has no key).
    pub fn listed(&self, after: Option<&str>, limit: usize) -> Result<Vec<(Snapshot, Option<String>)>> {
        self.many(
            concat!(
                "SELECT ",
                snapshot_columns!(),
                ", p.key FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent \
                 WHERE s.key > ?1 ORDER BY s.key LIMIT ?2"
            ),
            params![after.unwrap_or_default(), i64::try_from(limit).unwrap_or(i64::MAX)],
            |row| Ok((columns::snapshot(row)?, row.get(SNAPSHOT_COLUMNS)?)),
        )
    }

    /// Committed ones with a key whose label `containerd.io/snapshot.ref` is this, oldest first.
    pub fn by_ref(&self, reference: &str) -> Result<Vec<Snapshot>> {
        self.many(
            snapshots!(
                "WHERE s.ref = ?1 AND s.kind = 'committed' AND s.key IS NOT NULL ORDER BY s.created, s.id"
            ),
            [reference],
            columns::snapshot,
        )
    }

    /// One whose parent this is and that has a key.
    pub fn listed_child(&self, id: Id) -> Result<Option<Snapshot>> {
        self.one(snapshots!("WHERE s.parent = ?1 AND s.key IS NOT NULL LIMIT 1"), [id], columns::snapshot)
    }

    /// True where this is the parent or the source of any.
    pub fn lineage_needs(&self, id: Id) -> Result<bool> {
        let needs = self.one(
            "SELECT EXISTS (SELECT 1 FROM snapshots WHERE parent = ?1) \
             OR EXISTS (SELECT 1 FROM snapshots WHERE source = ?1)",
            [id],
            |row| row.get(0),
        )?;
        Ok(needs.unwrap_or_default())
    }

    /// All, by created, then id.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.many(snapshots!("ORDER BY s.created, s.id"), [], columns::snapshot)
    }

    /// Adds one; `KeyExists` or `NameExists` where its key or name is taken.
    pub fn insert(&self, snapshot: &Snapshot) -> Result<()> {
        self.put(
            snapshot,
            "INSERT INTO snapshots (id, key, name, kind, parent, source, layer, pinned, transient, \
             labels, created, updated, captured, namespace, client_key, operation, expires, taken) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )
        .map(drop)
    }

    /// Changes one; errors as `insert`, `SnapshotNotFound` where it is gone.
    pub fn update(&self, snapshot: &Snapshot) -> Result<()> {
        let changed = self.put(
            snapshot,
            "UPDATE snapshots SET key = ?2, name = ?3, kind = ?4, parent = ?5, source = ?6, layer = ?7, \
             pinned = ?8, transient = ?9, labels = ?10, created = ?11, updated = ?12, captured = ?13, \
             namespace = ?14, client_key = ?15, operation = ?16, expires = ?17, taken = ?18 WHERE id = ?1",
        )?;
        if changed == 0 { Err(Error::SnapshotNotFound(snapshot.title())) } else { Ok(()) }
    }

    /// Deletes one; nothing happens where it is gone already. It must be no one's parent or source.
    pub fn delete(&self, id: Id) -> Result<()> {
        self.run("DELETE FROM snapshots WHERE id = ?1", [id]).map(drop)
    }

    /// (with a key, held by name or pin, layers)
    pub fn counts(&self) -> Result<(u64, u64, u64)> {
        let counts = self.one(
            "SELECT (SELECT count(key) FROM snapshots), \
             (SELECT count(*) FROM snapshots WHERE name IS NOT NULL OR pinned), \
             (SELECT count(*) FROM layers)",
            [],
            |row| Ok((columns::count(row, 0)?, columns::count(row, 1)?, columns::count(row, 2)?)),
        )?;
        Ok(counts.unwrap_or_default())
    }

    /// Those that stand on a layer, oldest first.
    pub fn standing(&self, layer: LayerId) -> Result<Vec<Snapshot>> {
        self.many(snapshots!("WHERE s.layer = ?1 ORDER BY s.created, s.id"), [layer], columns::snapshot)
    }

    /// Those that an operation made, oldest first.
    pub fn by_operation(&self, operation: Id) -> Result<Vec<Snapshot>> {
        self.many(
            snapshots!("WHERE s.operation = ?1 ORDER BY s.created, s.id"),
            [operation],
            columns::snapshot,
        )
    }

    /// Those that have expired by `now`, are not pinned and still have their bytes, first those that expired
    /// first.
    pub fn expired(&self, now: Time) -> Result<Vec<Snapshot>> {
        self.many(
            snapshots!(
                "WHERE s.expires <= ?1 AND s.pinned = 0 AND s.layer IS NOT NULL ORDER BY s.expires, s.id"
            ),
            [now],
            columns::snapshot,
        )
    }

    /// When the next one expires of those that [`Rows::expired`] may answer.
    pub fn next_expiry(&self) -> Result<Option<Time>> {
        let next = self.one(
            "SELECT min(expires) FROM snapshots WHERE expires IS NOT NULL AND pinned = 0 AND layer IS NOT NULL",
            [],
            |row| row.get(0),
        )?;
        Ok(next.flatten())
    }

    // Layers.
    /// By id.
    pub fn layer(&self, id: LayerId) -> Result<Option<Layer>> {
        self.one(layers!("WHERE l.id = ?1"), [id], columns::layer)
    }

    /// All, in the order of ids.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        self.many(layers!("ORDER BY l.id"), [], columns::layer)
    }

    /// A layer and those it is stacked on, topmost first; empty where there is no such layer.
    pub fn chain(&self, id: LayerId) -> Result<Vec<Layer>> {
        let chain = self.many(
            concat!(
                "WITH RECURSIVE chain (id, depth) AS (\
                 SELECT ?1, 1 UNION ALL \
                 SELECT below.base, depth + 1 FROM chain JOIN layers below ON below.id = chain.id \
                 WHERE below.base IS NOT NULL AND depth <= ?2) \
                 SELECT ",
                layer_columns!(),
                " FROM chain JOIN layers l ON l.id = chain.id ORDER BY chain.depth"
            ),
            params![id, i64::try_from(LONGEST_CHAIN).unwrap_or(i64::MAX)],
            columns::layer,
        )?;
        if chain.len() > LONGEST_CHAIN {
            return Err(Error::Internal(format!("the layers below {id} do not end")));
        }
        Ok(chain)
    }

    /// Adds one; its base must be there.
    pub fn insert_layer(&self, layer: &Layer) -> Result<()> {
        self.put_layer(
            layer,
            "INSERT INTO layers (id, home, base, stage, size, inodes, was, max_size, mapping, still, merged, \
             own_size, own_inodes, instead_of) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .map(drop)
    }

    /// Changes one.
    pub fn update_layer(&self, layer: &Layer) -> Result<()> {
        let changed = self.put_layer(
            layer,
            "UPDATE layers SET home = ?2, base = ?3, stage = ?4, size = ?5, inodes = ?6, was = ?7, max_size = ?8, \
             mapping = ?9, still = ?10, merged = ?11, own_size = ?12, own_inodes = ?13, \
             instead_of = ?14 WHERE id = ?1",
        )?;
        if changed == 0 {
            return Err(Error::Internal(format!("layer {} was to be changed and is gone", layer.id)));
        }
        Ok(())
    }

    /// Deletes one; nothing happens where it is gone already. Nothing may stand on it.
    pub fn delete_layer(&self, id: LayerId) -> Result<()> {
        self.run("DELETE FROM layers WHERE id = ?1", [id]).map(drop)
    }

    /// The snapshots that stand on it (`Snapshot::layer`) plus the layers that are stacked on it.
    pub fn standing_on(&self, id: LayerId) -> Result<u64> {
        let standing = self.one(
            "SELECT (SELECT count(*) FROM snapshots WHERE layer = ?1) \
             + (SELECT count(*) FROM layers WHERE base = ?1)",
            [id],
            |row| columns::count(row, 0),
        )?;
        Ok(standing.unwrap_or_default())
    }

    /// The layers that are stacked on it.
    pub fn above(&self, id: LayerId) -> Result<Vec<Layer>> {
        self.many(layers!("WHERE l.base = ?1 ORDER BY l.id"), [id], columns::layer)
    }

    /// Has everything that stands on a layer stand on another one.
    pub fn replace_layer(&self, id: LayerId, by: LayerId) -> Result<()> {
        self.run("UPDATE snapshots SET layer = ?2 WHERE layer = ?1", [id, by])?;
        self.run("UPDATE layers SET base = ?2 WHERE base = ?1", [id, by]).map(drop)
    }

    // Pauses.
    /// Writes one down; once is enough, and the last one counts.
    pub fn insert_pause(&self, pause: &Pause) -> Result<()> {
        self.run(
            "INSERT INTO pauses (address, namespace, container, unquiesce) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET unquiesce = excluded.unquiesce",
            params![pause.address, pause.namespace, pause.container, pause.unquiesce],
        )
        .map(drop)
    }

    /// Deletes one; nothing happens where it is gone already.
    pub fn delete_pause(&self, pause: &Pause) -> Result<()> {
        self.run(
            "DELETE FROM pauses WHERE address = ?1 AND namespace = ?2 AND container = ?3",
            [&pause.address, &pause.namespace, &pause.container],
        )
        .map(drop)
    }

    /// All.
    pub fn pauses(&self) -> Result<Vec<Pause>> {
        self.many(
            "SELECT address, namespace, container, unquiesce FROM pauses ORDER BY address, namespace, container",
            [],
            columns::pause,
        )
    }

    // What the methods above are made of.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(params, read).optional())
            .map_err(failed(self.path))
    }

    pub(super) fn many<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(params, read)?.collect())
            .map_err(failed(self.path))
    }

    pub(super) fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.change(sql, params).map_err(failed(self.path))
    }

    pub(super) fn change(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(sql)?.execute(params)
    }

    /// Writes a snapshot's columns by a statement that takes all of them.
    fn put(&self, snapshot: &Snapshot, sql: &str) -> Result<usize> {
        let labels = columns::to_json(&snapshot.labels).map_err(failed(self.path))?;
        let (namespace, client_key) = snapshot.key.as_deref().and_then(columns::key_parts).unzip();
        let written = self.change(
            sql,
            params![
                snapshot.id,
                snapshot.key,
                snapshot.name,
                snapshot.kind,
                snapshot.parent,
                snapshot.source,
                snapshot.layer,
                snapshot.pinned,
                snapshot.transient,
                labels,
                snapshot.created,
                snapshot.updated,
                snapshot.captured,
                namespace,
                client_key,
                snapshot.operation,
                snapshot.expires,
                snapshot.taken,
            ],
        );
        match written {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(self.taken(snapshot)?.unwrap_or_else(|| failed(self.path)(e)))
            }
            written => written.map_err(failed(self.path)),
        }
    }

    /// Which of its key and name another snapshot has.
    fn taken(&self, snapshot: &Snapshot) -> Result<Option<Error>> {
        if let Some(key) = &snapshot.key
            && self.by_key(key)?.is_some_and(|other| other.id != snapshot.id)
        {
            return Ok(Some(Error::KeyExists(key.clone())));
        }
        if let Some(name) = &snapshot.name
            && self.by_name(name)?.is_some_and(|other| other.id != snapshot.id)
        {
            return Ok(Some(Error::NameExists(name.clone())));
        }
        Ok(None)
    }

    fn put_layer(&self, layer: &Layer, sql: &str) -> Result<usize> {
        let mapping = layer.mapping.as_ref().map(columns::to_json).transpose();
        let mapping = mapping.map_err(failed(self.path))?;
        let others = Some(&layer.instead_of).filter(|others| !others.is_empty());
        let instead_of = others.map(columns::to_json).transpose().map_err(failed(self.path))?;
        self.run(
            sql,
            params![
                layer.id,
                layer.home,
                layer.base,
                layer.stage,
                layer.usage.map(|usage| usage.size),
                layer.usage.map(|usage| usage.inodes),
                layer.was,
                layer.max_size,
                mapping,
                layer.still,
                layer.merged,
                layer.own.map(|usage| usage.size),
                layer.own.map(|usage| usage.inodes),
                instead_of,
            ],
        )
    }
}
