-- The least that a commit writes: a dedupe key, an entity, a counter. ARGV: id and entity of each event.
for i = 1, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[1], ARGV[i], '1') == 1 then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('HINCRBY', KEYS[3], 'applied', 1)
  end
end
