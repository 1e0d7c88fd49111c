#!lua
-- Releases a lease if it is the holder's. KEYS: lease. ARGV: holder.

local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%d+ (.*)$') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
