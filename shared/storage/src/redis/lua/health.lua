#!lua flags=no-writes
-- What a partition knows of its own health, and in which life of its server.
-- KEYS: health.

local life = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
local known = redis.call('HMGET', KEYS[1], 'whole_in', 'healed_by', 'reach_ms', 'healing', 'from_ms')
return { life, known[1], known[2], known[3], known[4], known[5] }
