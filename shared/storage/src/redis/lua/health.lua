#!lua flags=no-writes
-- The recorded health of a partition, and its server's run id.
-- KEYS: health. ARGV: this version's state format.

local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
local known = redis.call('HMGET', KEYS[1], 'complete_in', 'recovery_id', 'high_watermark_ms', 'recovery', 'from_ms',
  'state_format', 'conversion')
-- A partition without any health is new. Versions that recorded health without a format wrote format 1.
local format = known[6] or (redis.call('HLEN', KEYS[1]) == 0 and ARGV[1]) or '1'
return { run_id, known[1], known[2], known[3], known[4], known[5], format, known[7] }
