-- Names the due entries of two sorted sets, earliest first, without removing them.
-- KEYS  1 retry  2 schedule
-- ARGV  1 most entries of each  2 entries of retry to pass over  3 entries of schedule to pass over
-- Result {now in s, score of the earliest entry that is not due or "", {retry members}, {schedule members}}
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local reply, next_due = {now, '', {}, {}}, nil
for i = 1, 2 do
  local later = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  reply[2 + i] = {}
  if later[2] and tonumber(later[2]) <= tonumber(now) then
    reply[2 + i] = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', now, 'LIMIT', ARGV[1 + i], ARGV[1])
    later = redis.call('ZRANGEBYSCORE', KEYS[i], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  end
  if later[2] and (not next_due or tonumber(later[2]) < next_due) then
    next_due = tonumber(later[2]); reply[2] = later[2]
  end
end
return reply
