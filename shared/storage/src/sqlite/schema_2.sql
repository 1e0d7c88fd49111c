-- What format 2 adds to format 1; a new file gets both.

-- Deliveries outside the queue: dead letters, and parked ones.
CREATE TABLE aside (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,
    delivery BLOB NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    partition INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    traceparent TEXT,
    body BLOB NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    UNIQUE (place, delivery)
);

-- The newest line of each space and key.
CREATE TABLE journal (
    space TEXT NOT NULL,
    key TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (space, key)
) WITHOUT ROWID;

-- Queue, archive and state are one file, so they are complete together, unless `revwatch rebuild` says otherwise.
CREATE TABLE health (
    partition INTEGER PRIMARY KEY,
    whole_in TEXT,
    healed_by TEXT,
    reach_ms INTEGER,
    healing TEXT,
    from_ms INTEGER
);
