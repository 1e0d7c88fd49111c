#!lua flags=no-writes
-- The recorded health of a partition, and its server's run id.
-- KEYS: health.

local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
local known = redis.call('HMGET', KEYS[1], 'whole_in', 'healed_by', 'reach_ms', 'healing', 'from_ms')
return { run_id, known[1], known[2], known[3], known[4], known[5] }
