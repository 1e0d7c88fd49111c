#!lua
-- Notes a healing, or joins the one under way, which then reaches as far back as either asks for: to the margin before
-- the newest that was committed while the partition was whole, or, if nothing of it is left, to the beginning.
-- KEYS: health. ARGV: name of the healing, margin in milliseconds.

redis.call('HSETNX', KEYS[1], 'healing', ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'from_ms', 'whole_in', 'reach_ms')
local from = 0
if known[2] and known[3] then
  from = math.max(0, tonumber(known[3]) - tonumber(ARGV[2]))
end
if not known[1] or from < tonumber(known[1]) then
  redis.call('HSET', KEYS[1], 'from_ms', string.format('%.0f', from))
end
return redis.call('HMGET', KEYS[1], 'healing', 'from_ms')
