-- What format 4 adds to format 3; a new file gets all of them.

ALTER TABLE health RENAME COLUMN whole_in TO complete_in;
ALTER TABLE health RENAME COLUMN healed_by TO recovery_id;
ALTER TABLE health RENAME COLUMN reach_ms TO high_watermark_ms;
ALTER TABLE health RENAME COLUMN healing TO recovery;

-- The format of entities, counters and conditions. Workers convert it.
ALTER TABLE health ADD COLUMN state_format INTEGER NOT NULL DEFAULT 1;
-- The conversion in progress.
ALTER TABLE health ADD COLUMN conversion TEXT;
