-- The embedded store: queue, archive and state in one file.
-- PRAGMAs are set when the connection opens; this runs once, when the file is new.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Every accepted delivery, in order, partition by partition: id = partition * 2^40 + sequence number.
-- It is the archive and, together with `cursors`, the queue.
CREATE TABLE archive (
    id INTEGER PRIMARY KEY,
    delivery BLOB NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    traceparent TEXT,
    body BLOB NOT NULL
);

-- The last acknowledged id of each partition.
CREATE TABLE cursors (partition INTEGER PRIMARY KEY, id INTEGER NOT NULL);

-- Dedupe keys: this delivery was applied or ignored. By event id, or by delivery id for repeats.
CREATE TABLE marks (
    key TEXT NOT NULL,
    day INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    delivery BLOB NOT NULL,
    set_day INTEGER NOT NULL,
    PRIMARY KEY (key, day, partition)
) WITHOUT ROWID;

CREATE TABLE entities (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id, partition)
) WITHOUT ROWID;

-- hour is hours since 1970, -1 for counters of the current state, or 2^32 + minutes since 1970.
CREATE TABLE counters (
    hour INTEGER NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (hour, name)
) WITHOUT ROWID;

CREATE TABLE conditions (
    kind TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    due_s INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, subject_kind, subject_id)
) WITHOUT ROWID;
CREATE INDEX conditions_due ON conditions (due_s);

CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE audit (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);

CREATE TABLE documents (
    space TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    fence INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE members (
    grp TEXT NOT NULL,
    member TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (grp, member)
) WITHOUT ROWID;
