#!lua
-- Marks the partition as complete, unless it lost data again since the recovery started: then the recovery id or the
-- server's run id differs.
-- KEYS: health. ARGV: recovery id, the server's run id when the recovery started.

local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
if redis.call('HGET', KEYS[1], 'recovery') ~= ARGV[1] or run_id ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'complete_in', run_id, 'recovery_id', ARGV[1])
redis.call('HDEL', KEYS[1], 'recovery', 'from_ms')
return 1
