#!lua
-- Renews a member and returns all live members. KEYS: members. ARGV: member, milliseconds.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = string.format('%.0f', now + ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
-- A much later deadline was written while the clock was ahead.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + 2 * ARGV[2]), '+inf')
redis.call('ZADD', KEYS[1], deadline, ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
