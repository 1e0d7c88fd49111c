#!lua
-- Writes documents, all or none, if the fence is the newest given out; returns whether it was.
-- KEYS: fence, then the spaces. ARGV: fence, then the writes, MessagePack, see alerting.rs.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
for i = 2, #KEYS do
  redis.call('HLEN', KEYS[i]) -- a key of the wrong type fails here, before the first write
end
for _, write in ipairs(cmsgpack.unpack(ARGV[2])) do
  if write.body then
    redis.call('HSET', KEYS[write.space], write.key, write.body)
  else
    redis.call('HDEL', KEYS[write.space], write.key)
  end
end
return 1
