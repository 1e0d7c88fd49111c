#!lua
-- Marks the partition as converted, unless another conversion began or data may have been lost since this one began: then
-- the id or the server's run id differs.
-- KEYS: health, changes. ARGV: conversion id, the server's run id when it began, this version's state format.

local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
if redis.call('HGET', KEYS[1], 'conversion') ~= ARGV[1] or run_id ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'state_format', ARGV[3], 'recovery_id', ARGV[1])
redis.call('HDEL', KEYS[1], 'conversion')
-- Readers of changes find a gap, and read all conditions.
redis.call('UNLINK', KEYS[2])
return 1
