#!lua flags=no-writes
-- Returns all live members. KEYS: members. ARGV: milliseconds after which no live member's deadline is.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now), string.format('%.0f', now + ARGV[1]))
