#!lua
-- Starts a recovery, or joins the one in progress, which then starts at the earlier of both times: the margin before
-- the newest commit while the partition was complete, or the beginning if none is recorded.
-- KEYS: health. ARGV: recovery id, margin in milliseconds, this version's state format.

-- Nothing is older in a new partition.
if redis.call('HLEN', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'state_format', ARGV[3])
end
redis.call('HSETNX', KEYS[1], 'recovery', ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'from_ms', 'complete_in', 'high_watermark_ms')
local from = 0
if known[2] and known[3] then
  from = math.max(0, tonumber(known[3]) - tonumber(ARGV[2]))
end
if not known[1] or from < tonumber(known[1]) then
  redis.call('HSET', KEYS[1], 'from_ms', string.format('%.0f', from))
end
return redis.call('HMGET', KEYS[1], 'recovery', 'from_ms')
