#!lua
-- Rebuilds the index of a space from its documents. Needed once for a space that was written before there was an index.
-- KEYS: hash, index.

local CHUNK = 1000 -- unpack() is limited by Lua's stack to some thousand values
local keys = redis.call('HKEYS', KEYS[1])
redis.call('UNLINK', KEYS[2])
for from = 1, #keys, CHUNK do
  local flat = {}
  for i = from, math.min(from + CHUNK - 1, #keys) do
    flat[#flat + 1] = 0
    flat[#flat + 1] = keys[i]
  end
  redis.call('ZADD', KEYS[2], unpack(flat))
end
return #keys
