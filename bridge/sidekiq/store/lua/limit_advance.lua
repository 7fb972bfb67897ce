-- Lets waiting jobs of one gate go while there is room: a limit has changed, a place has expired, a rate allows the next start.
-- KEYS  1 schedule  2 bridge:waiting  3..6 of the gate (limit_gate.lua)  7.. queue:<name> of queues that jobs may go to
-- ARGV  1..4 of the gate
-- Result {now in s, when a worker must look again or "", score of the head of the line or ""}
--@include limit_gate
--@include limit_line
--@include limit_send
--@include limit_next
local look = advance(3, 1, 7)
return {text(now), look, redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2] or ''}
