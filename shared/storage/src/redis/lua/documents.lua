#!lua
-- Writes documents, all or none, if the fence is the newest issued; returns whether it was.
-- KEYS: fence, sequence, then hash, versions and index of each space. ARGV: fence, or '' for none, then the
-- writes, MessagePack, see documents.rs.

if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
-- A key of the wrong type fails here, before the first write.
local newest = tonumber(redis.call('GET', KEYS[2]) or 0)
for i = 3, #KEYS, 3 do
  redis.call('HLEN', KEYS[i])
  redis.call('HLEN', KEYS[i + 1])
  redis.call('ZCARD', KEYS[i + 2])
end

-- Microseconds of the clock, or one more than the last: higher than any version used before, even if that
-- one was lost with the data.
local time = redis.call('TIME')
local version = string.format('%.0f', math.max(time[1] * 1000000 + time[2], newest + 1))
redis.call('SET', KEYS[2], version)
for _, write in ipairs(cmsgpack.unpack(ARGV[2])) do
  local hash, versions, index = KEYS[write.space], KEYS[write.space + 1], KEYS[write.space + 2]
  if write.body then
    redis.call('HSET', hash, write.key, write.body)
    redis.call('HSET', versions, write.key, version)
    redis.call('ZADD', index, 0, write.key)
  else
    redis.call('HDEL', hash, write.key)
    redis.call('HDEL', versions, write.key)
    redis.call('ZREM', index, write.key)
  end
end
return 1
