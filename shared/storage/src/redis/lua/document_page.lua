#!lua flags=no-writes
-- A page of documents in the order of their keys, as a flat list of key, version and body; false if the index
-- is incomplete: documents were written before there was an index.
-- KEYS: hash, versions, index. ARGV: the lower and upper bound for ZRANGE, how many.

if redis.call('ZCARD', KEYS[3]) ~= redis.call('HLEN', KEYS[1]) then
  return false
end
local page = {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[3], ARGV[1], ARGV[2], 'BYLEX', 'LIMIT', 0, ARGV[3])) do
  local version = string.match(redis.call('HGET', KEYS[2], key) or '1', '^%d+')
  local body = redis.call('HGET', KEYS[1], key)
  if not body then
    return false
  end
  page[#page + 1] = key
  page[#page + 1] = version
  page[#page + 1] = body
end
return page
