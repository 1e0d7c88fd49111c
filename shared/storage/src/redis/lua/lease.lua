#!lua
-- Takes or renews a lease; returns its fence, or false if another holder has it.
-- KEYS: lease, fence. ARGV: holder, milliseconds.

local held = redis.call('GET', KEYS[1])
if held then
  local fence, holder = string.match(held, '^(%d+) (.*)$')
  if holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return fence
  end
  -- One that ends much later than any taken now was taken while the clock was ahead.
  if redis.call('PTTL', KEYS[1]) <= 2 * ARGV[2] then
    return false
  end
end

-- Microseconds of the clock, or one more than the last: higher than any fence issued before, even if the
-- last one was lost with the data.
local time = redis.call('TIME')
local fence = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or 0) + 1)
fence = string.format('%.0f', fence)
redis.call('SET', KEYS[2], fence)
redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1], 'PX', ARGV[2])
return fence
