#!lua
-- The partition is whole, unless it lost data again since the healing began: then its name, or the life of the
-- server, is another.
-- KEYS: health. ARGV: name of the healing, life of the server when it began.

local life = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
if redis.call('HGET', KEYS[1], 'healing') ~= ARGV[1] or life ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'whole_in', life, 'healed_by', ARGV[1])
redis.call('HDEL', KEYS[1], 'healing', 'from_ms')
return 1
