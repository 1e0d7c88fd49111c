#!lua
-- Applies one batch of one partition completely or not at all.
-- Because of the first line Redis refuses the script before it starts when it is out of memory, cannot
-- persist, or is a replica. Everything else that can fail is checked before the first write.
-- KEYS: conditions, due, changes, audit, days, health, then those that the groups of the batch name by index.
-- ARGV[1]: the batch, MessagePack, see commit.rs. ARGV[2..]: the bytes it refers to.

local batch = cmsgpack.unpack(ARGV[1])
local CONDITIONS, DUE, CHANGES, AUDIT, DAYS, HEALTH = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local CHUNK = 1000 -- unpack() is limited by Lua's stack to some thousand values

-- Calls each(i, value) for every field of the group; value is false if the hash does not have it.
local function lookup(group, each)
  for from = 1, #group.fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #group.fields)
    local values = redis.call('HMGET', KEYS[group.key], unpack(group.fields, from, to))
    for i, value in ipairs(values) do
      each(from + i - 1, value)
    end
  end
end

-- Empty bytes delete the field.
local function store(group)
  for from = 1, #group.fields, CHUNK do
    local flat = {}
    for i = from, math.min(from + CHUNK - 1, #group.fields) do
      if ARGV[group.bytes + i] == '' then
        redis.call('HDEL', KEYS[group.key], group.fields[i])
      else
        flat[#flat + 1] = group.fields[i]
        flat[#flat + 1] = ARGV[group.bytes + i]
      end
    end
    if #flat > 0 then
      redis.call('HSET', KEYS[group.key], unpack(flat))
    end
  end
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
  lookup(group, function(i, value)
    if not value then
      absent = absent + 1
    elseif value == ARGV[group.bytes + i] then
      own = own + 1
    else
      foreign = foreign + 1
    end
  end)
end
if own > 0 and foreign == 0 and absent == 0 then
  return 'already applied'
end
-- Some deliveries of the batch were applied, others not: 'already applied' would lose the others.
if own > 0 or foreign > 0 then
  return 'conflict'
end

local moved = false
for _, group in ipairs(batch.entities) do
  lookup(group, function(i, value)
    if (value and struct.unpack('>I8', value) or 0) ~= group.expected[i] then
      moved = true
    end
  end)
end
if moved then
  return 'conflict'
end

for _, group in ipairs(batch.counters) do
  local wrong
  lookup(group, function(i, value)
    local now, delta = tonumber(value or 0), tonumber(group.deltas[i])
    if not now or math.abs(now) + math.abs(delta) > 9.2e18 then
      wrong = group.fields[i]
    end
  end)
  if wrong then
    return redis.error_reply('CORRUPT counter ' .. wrong .. ' in ' .. KEYS[group.key] .. ' cannot be added to')
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
  store(group)
  redis.call('EXPIRE', KEYS[group.key], batch.mark_seconds, 'NX')
end

for _, group in ipairs(batch.entities) do
  store(group)
end

for _, group in ipairs(batch.counters) do
  for i, field in ipairs(group.fields) do
    if redis.call('HINCRBY', KEYS[group.key], field, group.deltas[i]) == 0 then
      redis.call('HDEL', KEYS[group.key], field)
    end
  end
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

for _, change in ipairs(batch.conditions) do
  if change.condition then
    redis.call('HSET', CONDITIONS, change.member, change.condition)
    redis.call('ZADD', DUE, change.due, change.member)
  else
    redis.call('HDEL', CONDITIONS, change.member)
    redis.call('ZREM', DUE, change.member)
  end
  local id = string.format('%.0f-0', sequence)
  redis.call('XADD', CHANGES, 'MAXLEN', '~', batch.changes_kept, id, batch.stream_field, change.change)
  sequence = sequence + 1
end

for _, entry in ipairs(batch.audit) do
  redis.call('XADD', AUDIT, 'MAXLEN', '~', batch.audit_kept, '*', batch.stream_field, entry)
end

-- Only for a complete partition: in a partition that lost data, even a moment ago, this would hide the loss.
-- Reading the server's run id costs more than the rest of a small batch, so it is read once a second. This value may
-- lag: a recovery then starts earlier than necessary, never too late.
if health[1] and (tonumber(health[2] or -1000) or -1000) + 1000 <= batch.high_watermark_ms
  and health[1] == (string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown') then
  redis.call('HSET', HEALTH, 'high_watermark_ms', string.format('%.0f', batch.high_watermark_ms))
end

return 'applied'
