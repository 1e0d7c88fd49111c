#!lua
-- Begins a conversion, or takes it over; returns the server's run id. Fields get their present names.
-- KEYS: health. ARGV: conversion id.

local NAMES = { whole_in = 'complete_in', healed_by = 'recovery_id', reach_ms = 'high_watermark_ms', healing = 'recovery' }

for old, new in pairs(NAMES) do
  local value = redis.call('HGET', KEYS[1], old)
  if value then
    redis.call('HSETNX', KEYS[1], new, value)
    redis.call('HDEL', KEYS[1], old)
  end
end
redis.call('HSET', KEYS[1], 'conversion', ARGV[1])
return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
