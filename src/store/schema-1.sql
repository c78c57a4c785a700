-- "loom" in ASCII: tells our file from any other program's.
PRAGMA application_id = 0x6c6f6f6d;

-- Bytes. A layer's id is the name of its directory.
CREATE TABLE layers (
    id      INTEGER PRIMARY KEY,
    home    TEXT    NOT NULL CHECK (home IN ('plain', 'pool')),
    base    INTEGER REFERENCES layers (id),
    stage   TEXT    NOT NULL CHECK (stage IN ('filling', 'writable', 'sealed', 'doomed')),
    size    INTEGER,
    inodes  INTEGER,
    CHECK ((size IS NULL) = (inodes IS NULL))
) STRICT;

CREATE INDEX layers_base ON layers (base) WHERE base IS NOT NULL;

-- Names. A row stays while lineage needs it, after its key and its layer are gone.
CREATE TABLE snapshots (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    key         TEXT    UNIQUE CHECK (key <> ''),
    name        TEXT    UNIQUE CHECK (name <> ''),
    kind        TEXT    NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
    parent      TEXT    REFERENCES snapshots (id),
    source      TEXT    REFERENCES snapshots (id),
    layer       INTEGER REFERENCES layers (id),
    pinned      INTEGER NOT NULL CHECK (pinned IN (0, 1)),
    transient   INTEGER NOT NULL CHECK (transient IN (0, 1)),
    labels      TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    captured    TEXT,
    -- The parts of a key of the shape <namespace>/<sequence>/<client key>.
    namespace   TEXT,
    client_key  TEXT,
    -- What containerd's unpacker calls an image layer; derived, so that it cannot drift from the labels.
    ref         TEXT    GENERATED ALWAYS AS (labels ->> '$."containerd.io/snapshot.ref"') VIRTUAL
) STRICT;

CREATE INDEX snapshots_parent ON snapshots (parent) WHERE parent IS NOT NULL;
CREATE INDEX snapshots_source ON snapshots (source) WHERE source IS NOT NULL;
CREATE INDEX snapshots_layer ON snapshots (layer) WHERE layer IS NOT NULL;
CREATE INDEX snapshots_ref ON snapshots (ref) WHERE ref IS NOT NULL;
CREATE INDEX snapshots_client_key ON snapshots (client_key, namespace) WHERE client_key IS NOT NULL;

-- Containers that are paused, or are about to be.
CREATE TABLE pauses (
    address     TEXT NOT NULL,
    namespace   TEXT NOT NULL,
    container   TEXT NOT NULL,
    PRIMARY KEY (address, namespace, container)
) STRICT, WITHOUT ROWID;
