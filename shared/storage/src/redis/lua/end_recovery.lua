#!lua
-- Marks the partition as complete, unless it lost data again since the recovery started: then the recovery id or the
-- server's run id differs.
-- KEYS: health. ARGV: recovery id, the server's run id when the recovery started.

local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
if redis.call('HGET', KEYS[1], 'healing') ~= ARGV[1] or run_id ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'whole_in', run_id, 'healed_by', ARGV[1])
redis.call('HDEL', KEYS[1], 'healing', 'from_ms')
return 1
