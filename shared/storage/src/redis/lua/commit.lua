#!lua
-- Applies one batch of one partition completely or not at all.
-- Because of the first line Redis refuses the script before it starts when it is out of memory, cannot
-- persist, or is a replica. Everything else that can fail is checked before the first write.
-- KEYS: conditions, due, changes, audit, days, health, then those that the groups of the batch name by index.
-- ARGV[1]: the batch, MessagePack, see commit.rs. ARGV[2..]: the bytes it refers to.

local batch = cmsgpack.unpack(ARGV[1])
local CONDITIONS, DUE, CHANGES, AUDIT, DAYS, HEALTH = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local CHUNK = 1000 -- unpack() is limited by Lua's stack to some thousand values
local EXACT = 2 ^ 53 -- below it, Lua's numbers are exact
local LARGEST, BEYOND = '9200000000000000000', '9223372036854775807' -- see counters.rs

-- Whether an integer, as text, is larger than the largest sum, or less than its negative.
local function is_beyond(text)
  local digits = string.gsub(text, '^-', '')
  return #digits > #LARGEST or #digits == #LARGEST and digits > LARGEST
end

-- The value of every field of the group, false where the hash does not have it.
local function values(group)
  local all = {}
  for from = 1, #group.fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #group.fields)
    local some = redis.call('HMGET', KEYS[group.key], unpack(group.fields, from, to))
    if from == 1 then
      all = some
    else
      for i = 1, #some do
        all[from + i - 1] = some[i]
      end
    end
  end
  return all
end

-- Calls a command for all arguments, which are pairs or single ones.
local function call(command, key, args)
  for from = 1, #args, 2 * CHUNK do
    redis.call(command, key, unpack(args, from, math.min(from + 2 * CHUNK - 1, #args)))
  end
end

-- Sets field i of the group to text(i), and deletes it if that is empty.
local function store(group, text)
  local set, gone = {}, {}
  for i, field in ipairs(group.fields) do
    local value = text(i)
    if value == '' then
      gone[#gone + 1] = field
    else
      set[#set + 1] = field
      set[#set + 1] = value
    end
  end
  call('HSET', KEYS[group.key], set)
  call('HDEL', KEYS[group.key], gone)
end

local function store_bytes(group)
  store(group, function(i)
    return ARGV[group.bytes + i]
  end)
end

-- Decide.

local health = redis.call('HMGET', HEALTH, 'complete_in', 'high_watermark_ms', 'state_format', 'conversion')
if batch.conversion then
  if health[4] ~= batch.conversion then
    return 'fenced'
  end
elseif health[4] or (health[3] or (redis.call('HLEN', HEALTH) == 0 and batch.state_format)) ~= batch.state_format then
  return 'unconverted'
end

local own, foreign, absent = 0, 0, 0
for _, group in ipairs(batch.marks) do
  for i, value in ipairs(values(group)) do
    if not value then
      absent = absent + 1
    elseif value == ARGV[group.bytes + i] then
      own = own + 1
    else
      foreign = foreign + 1
    end
  end
end
if own > 0 and foreign == 0 and absent == 0 then
  return 'already applied'
end
-- Some deliveries of the batch were applied, others not: 'already applied' would lose the others.
if own > 0 or foreign > 0 then
  return 'conflict'
end

for _, group in ipairs(batch.entities) do
  for i, value in ipairs(values(group)) do
    if (value and struct.unpack('>I8', value) or 0) ~= group.expected[i] then
      return 'conflict'
    end
  end
end

for _, group in ipairs(batch.counters) do
  group.sums = values(group)
  for i, value in ipairs(group.sums) do
    local now, delta = tonumber(value or 0), tonumber(group.deltas[i])
    if not now or now ~= math.floor(now) or math.abs(now) > 2 ^ 63 then
      local name = group.fields[i] .. ' in ' .. KEYS[group.key]
      return redis.error_reply('CORRUPT counter ' .. name .. ' cannot be added to')
    end
    if value and is_beyond(value) then
      group.sums[i] = value
    elseif math.abs(now + delta) > 9.21e18 then
      group.sums[i] = now + delta > 0 and BEYOND or '-' .. BEYOND
    else
      -- What is not exact here is added by Redis, and does not overflow.
      group.sums[i] = math.abs(now) + math.abs(delta) < EXACT and now + delta
    end
  end
end

-- A key of the wrong type fails here, before the first write.
redis.call('HLEN', CONDITIONS)
redis.call('ZCARD', DUE)
redis.call('XLEN', AUDIT)
redis.call('SCARD', DAYS)
local newest = redis.call('XREVRANGE', CHANGES, '+', '-', 'COUNT', 1)[1]

-- Write.

for _, group in ipairs(batch.marks) do
  store_bytes(group)
  redis.call('EXPIRE', KEYS[group.key], batch.mark_seconds, 'NX')
end

for _, group in ipairs(batch.entities) do
  store_bytes(group)
end

for _, group in ipairs(batch.counters) do
  store(group, function(i)
    local sum = group.sums[i]
    if type(sum) == 'string' then
      return sum
    elseif sum then
      return sum == 0 and '' or string.format('%.0f', sum)
    end
    redis.call('HINCRBY', KEYS[group.key], group.fields[i], group.deltas[i])
    sum = redis.call('HGET', KEYS[group.key], group.fields[i])
    if is_beyond(sum) then
      return string.sub(sum, 1, 1) == '-' and '-' .. BEYOND or BEYOND
    end
    return sum == '0' and '' or sum
  end)
  if group.seconds then
    redis.call('EXPIRE', KEYS[group.key], group.seconds, 'NX')
  end
  if group.day then
    redis.call('SADD', DAYS, group.day)
  end
end

-- Microseconds of the clock, or one more than the newest: a number issued before a data loss is never
-- reused.
local time = redis.call('TIME')
local sequence = time[1] * 1000000 + time[2]
if newest then
  sequence = math.max(sequence, tonumber(string.match(newest[1], '^%d+')) + 1)
end

-- Of several changes of one condition, the last is what it is.
local last, members = {}, {}
for _, change in ipairs(batch.conditions) do
  if not last[change.member] then
    members[#members + 1] = change.member
  end
  last[change.member] = change
  local id = string.format('%.0f-0', sequence)
  redis.call('XADD', CHANGES, id, batch.stream_field, change.change)
  sequence = sequence + 1
end

local open, due, closed = {}, {}, {}
for _, member in ipairs(members) do
  local change = last[member]
  if change.condition then
    open[#open + 1] = member
    open[#open + 1] = change.condition
    due[#due + 1] = change.due
    due[#due + 1] = member
  else
    closed[#closed + 1] = member
  end
end
call('HSET', CONDITIONS, open)
call('ZADD', DUE, due)
call('HDEL', CONDITIONS, closed)
call('ZREM', DUE, closed)

for _, entry in ipairs(batch.audit) do
  redis.call('XADD', AUDIT, '*', batch.stream_field, entry)
end

if #batch.conditions > 0 then
  redis.call('XTRIM', CHANGES, 'MAXLEN', '~', batch.changes_kept)
end
if #batch.audit > 0 then
  redis.call('XTRIM', AUDIT, 'MAXLEN', '~', batch.audit_kept)
end

-- Only for a complete partition: in a partition that lost data, even a moment ago, this would hide the loss.
-- Reading the server's run id costs more than the rest of a small batch, so it is read once a second. This value may
-- lag: a recovery then starts earlier than necessary, never too late.
if health[1] and (tonumber(health[2] or -1000) or -1000) + 1000 <= batch.high_watermark_ms
  and health[1] == (string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown') then
  redis.call('HSET', HEALTH, 'high_watermark_ms', string.format('%.0f', batch.high_watermark_ms))
end

return 'applied'
