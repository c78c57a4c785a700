-- More kinds of operations. A CHECK cannot be changed, so the table is made anew: the kinds are the code's to know.

CREATE TABLE operations_3 (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    kind        TEXT    NOT NULL,
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

INSERT INTO operations_3 SELECT id, kind, subject, address, namespace, state, done, total, steps, warnings, error, key,
    request, plan, result, created, ended FROM operations;
DROP TABLE operations;
ALTER TABLE operations_3 RENAME TO operations;

-- A key is free again once what it stood for has failed.
CREATE UNIQUE INDEX operations_key ON operations (key)
    WHERE key IS NOT NULL AND state NOT IN ('failed', 'cancelled');
CREATE INDEX operations_created ON operations (created);
CREATE INDEX operations_unfinished ON operations (id) WHERE state IN ('accepted', 'running');
