-- Branches as tracked work, and what they leave on a snapshot.

-- One row for each operation that was ever accepted, until it is old.
CREATE TABLE operations (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    kind        TEXT    NOT NULL CHECK (kind IN ('snapshot', 'fork', 'clone', 'rollback', 'promote', 'resume')),
    subject     TEXT    NOT NULL,
    address     TEXT    NOT NULL,
    namespace   TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('accepted', 'running', 'succeeded', 'failed', 'cancelled')),
    done        INTEGER NOT NULL,
    total       INTEGER NOT NULL,
    steps       TEXT    NOT NULL,
    warnings    TEXT    NOT NULL,
    error       TEXT,
    -- What its client calls it, so that the same request made twice is carried out once.
    key         TEXT,
    -- The request, as JSON: the same key with another request is a conflict.
    request     TEXT    NOT NULL,
    -- What a restart needs to finish or undo it, as JSON of the room that does the work.
    plan        TEXT,
    -- What it answered, as JSON of the room that does the work.
    result      TEXT,
    created     INTEGER NOT NULL,
    ended       INTEGER,
    CHECK ((ended IS NULL) = (state IN ('accepted', 'running')))
) STRICT;

-- A key is free again once what it stood for has failed.
CREATE UNIQUE INDEX operations_key ON operations (key)
    WHERE key IS NOT NULL AND state NOT IN ('failed', 'cancelled');
CREATE INDEX operations_created ON operations (created);
CREATE INDEX operations_unfinished ON operations (id) WHERE state IN ('accepted', 'running');

-- The operation that made it.
ALTER TABLE snapshots ADD COLUMN operation TEXT;
-- When it goes by itself, unless it is pinned.
ALTER TABLE snapshots ADD COLUMN expires INTEGER;
-- The moment that its source stood still for it.
ALTER TABLE snapshots ADD COLUMN taken INTEGER;

CREATE INDEX snapshots_operation ON snapshots (operation) WHERE operation IS NOT NULL;
CREATE INDEX snapshots_expires ON snapshots (expires) WHERE expires IS NOT NULL;

-- What is to be run in the container once it goes on: a JSON array of strings.
ALTER TABLE pauses ADD COLUMN unquiesce TEXT;
