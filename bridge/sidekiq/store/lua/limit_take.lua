-- Takes a place at each gate of one claimed job, or parks the job in schedule, behind the line of the narrowest gate that is full.
-- KEYS  1..4 (limit_gate.lua)  5 bridge:inflight:<identity>  6.. four for each gate (limit_gate.lua), narrow gates last
--       then: queue:<name> of queues that jobs may go to
-- ARGV  1 token ("" = a process without a lease)  2 holder  3 end of its places in s ("inf" = freed by its settlement)
--       4 id of the job  5 its queue  6 its payload  7 TIME in s of its claim ("" = now, and in no order with other claims)
--       8 "again" = it was told {2}, "now" = it does not wait for earlier claims any more
--       9.. five for each gate: four (limit_gate.lua), and one digit for each gate: how it keeps a place here while it waits there
-- Result {1, now, when a worker must look again or ""} may run, {0, now, the same, number of the gate} parked,
--        {2, now} ask again: a worker has not asked for the places of an earlier claim yet
--        {-1} this worker does not hold the job (fenced; nothing is written)
--@include limit_gate
--@include limit_clock
--@include limit_rate
--@include limit_room
--@include limit_line
--@include limit_send
--@include limit_turn
--@include limit_next
--@include limit_may_go
--@include limit_park
--@include limit_enter
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[5], ARGV[1]) == 0 then return {-1} end
local gates, full, later = (#ARGV - 8) / 5, nil, false
if ARGV[8] ~= '' then redis.call('ZREM', KEYS[3], asks_again) end
for gate = gates, 1, -1 do
  local answer = full or may_go(2 + 4 * gate, 4 + 5 * gate)
  if answer == 'no' then full = gate end
  later = later or answer == 'later'
end
if full then return wait(gates, full) end
if not later then return begin(gates) end
redis.call('ZADD', KEYS[3], at_its_time(ticket), asks_again)
return {2, text(now)}
