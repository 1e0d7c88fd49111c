#!lua
-- Notes a healing, or joins the one under way, which then reaches as far back as either asks for.
-- KEYS: health. ARGV: name of the healing, from_ms.

redis.call('HSETNX', KEYS[1], 'healing', ARGV[1])
local from = redis.call('HGET', KEYS[1], 'from_ms')
if not from or tonumber(ARGV[2]) < tonumber(from) then
  redis.call('HSET', KEYS[1], 'from_ms', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'healing', 'from_ms')
