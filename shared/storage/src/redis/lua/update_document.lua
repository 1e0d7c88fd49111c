#!lua
-- Writes or deletes a document if it has the expected version. Returns the outcome and the version.
-- KEYS: sequence, hash, versions, index. ARGV: key, expected version, write id, then the body, or nothing to delete.

local key = ARGV[1]
local exists = redis.call('HEXISTS', KEYS[2], key) == 1
local stored = redis.call('HGET', KEYS[3], key)
-- A document written before there were versions has version 1.
local version, writer = '0', nil
if exists then
  version, writer = string.match(stored or '1', '^(%d+) ?(.*)$')
end
if version ~= ARGV[2] then
  if writer == ARGV[3] then
    return { 'already applied', version }
  end
  return { 'conflict', version }
end
-- A key of the wrong type fails here, before the first write.
redis.call('ZCARD', KEYS[4])
local newest = tonumber(redis.call('GET', KEYS[1]) or 0)

if not ARGV[4] then
  redis.call('HDEL', KEYS[2], key)
  redis.call('HDEL', KEYS[3], key)
  redis.call('ZREM', KEYS[4], key)
  return { 'applied', '0' }
end
local time = redis.call('TIME')
version = string.format('%.0f', math.max(time[1] * 1000000 + time[2], newest + 1))
redis.call('SET', KEYS[1], version)
redis.call('HSET', KEYS[2], key, ARGV[4])
redis.call('HSET', KEYS[3], key, version .. ' ' .. ARGV[3])
redis.call('ZADD', KEYS[4], 0, key)
return { 'applied', version }
