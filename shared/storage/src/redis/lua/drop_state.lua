#!lua
-- Drops everything derived from events of a partition, its health first. The keys are few, but can be large.
-- KEYS: health. ARGV: the pattern of the partition's keys, which share the hash tag of KEYS[1].

redis.call('DEL', KEYS[1])
local cursor = '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    redis.call('UNLINK', key)
  end
until cursor == '0'
return 1
