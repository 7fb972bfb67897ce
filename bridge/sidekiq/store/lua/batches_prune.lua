-- Forgets batches whose time is over: finished ones after a day, and others that nothing has moved for their whole
-- TTL, counted from their last scheduled job where that is later.
-- KEYS  1 bridge:batches (their own keys follow from its members)
-- ARGV  1 TTL of a batch in s  2 most of them at once
-- Result: how many it forgot
local time, gone = redis.call('TIME'), 0
for _, bid in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time[1], 'LIMIT', 0, ARGV[2])) do
  local meta = 'bridge:batch:' .. bid
  local created, moved, finished, scheduled = unpack(redis.call('HMGET', meta, 'created_at', 'moved_at', 'success_at', 'until'))
  local till = math.max(tonumber(moved or created or 0) or 0, tonumber(scheduled or 0)) + ARGV[1]
  if created and not finished and till > tonumber(time[1]) then
    redis.call('ZADD', KEYS[1], till, bid)
  else
    redis.call('UNLINK', meta, meta .. ':jobs', meta .. ':order', meta .. ':results')
    redis.call('ZREM', KEYS[1], bid)
    gone = gone + 1
  end
end
return gone
