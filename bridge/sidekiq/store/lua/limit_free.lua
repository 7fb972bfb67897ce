-- Frees the place of a job that ended, and lets the next one go. The body of function(KEYS, ARGV, settled).
-- KEYS  1..4, 5..8 of the gate (limit_gate.lua)  9.. queue:<name> of queues that jobs may go to
-- ARGV  1 holder ("" = the job waited in a queue or a set)  2 id of the job  3 its queue
--       4 "1" = if `settled` is 1 the job went back to its queue: it is the next to go  5..8 of the gate
-- Result: when a worker must look again, or ""
--@include limit_gate
--@include limit_clock
--@include limit_rate
--@include limit_room
--@include limit_line
--@include limit_send
--@include limit_turn
--@include limit_next
local freed = redis.call('ZREM', KEYS[5], ARGV[1])
if freed == 0 then redis.call('HDEL', KEYS[4], '#' .. ARGV[2]) end
if ARGV[1] == '' then
  redis.call('ZREM', KEYS[6], ARGV[2], '@' .. ARGV[2])
  redis.call('ZREM', KEYS[7], ARGV[2] .. ' ' .. ARGV[3])
elseif ARGV[4] == '1' and settled == 1 and (freed == 1 or ARGV[6] == '') then
  redis.call('ZADD', KEYS[6], text(now + RESERVED), ARGV[2])
  redis.call('EXPIRE', KEYS[6], 2 * PARKED)
elseif freed == 0 and ARGV[4] ~= '1' then
  -- It left the line and ended before its run (expired, cancelled): the next one may go.
  redis.call('ZREM', KEYS[6], ARGV[2], '@' .. ARGV[2])
end
return advance(5, 5, 9)
