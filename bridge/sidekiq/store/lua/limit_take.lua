-- Takes a place at each gate of one claimed job, or parks the job in schedule, behind the line of the last gate that is full.
-- KEYS  1 schedule  2 bridge:waiting  3 bridge:inflight:<identity>  4.. four for each gate (limit_gate.lua), narrow gates last
--       then: queue:<name> of queues that jobs may go to
-- ARGV  1 token ("" = a process without a lease)  2 holder  3 end of its places in s ("inf" = freed by its settlement)
--       4 id of the job  5 its queue  6 its payload  7 TIME in s of its claim ("" = now)  8.. five for each gate: four (limit_gate.lua),
--       and one digit for each gate: 1 = it keeps a place here while it waits there
-- Result {1, now, when a worker must look again or ""} may run, {0, now, the same, number of the gate} parked,
--        {-1} this worker does not hold the job (fenced; nothing is written)
--@include limit_gate
--@include limit_line
--@include limit_send
--@include limit_next
--@include limit_may_go
--@include limit_park
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[3], ARGV[1]) == 0 then return {-1} end
local gates, full, look = (#ARGV - 7) / 5, nil, ''
local queues = 4 + 4 * gates
for gate = gates, 1, -1 do
  if not full and not may_go(4 * gate, 3 + 5 * gate) then full = gate end
end
-- A schedule of a wrong type is an error here: behind the HDEL it would cost the job.
if full then redis.call('ZCARD', KEYS[1]) end
if full and ARGV[1] ~= '' then redis.call('HDEL', KEYS[3], ARGV[1]) end
for gate = 1, gates do
  local at, by = 4 * gate, 3 + 5 * gate
  if not full then
    enter(at, by, ARGV[4], ARGV[2], ARGV[3])
    redis.call('ZREM', KEYS[at + 2], member)
    local next_look = redis.call('EXISTS', KEYS[at + 2]) == 1 and advance(at, by, queues) or ''
    if next_look ~= '' and (look == '' or tonumber(next_look) < tonumber(look)) then look = next_look end
  elseif gate ~= full then
    redis.call('ZREM', KEYS[at], ARGV[2])
    if gate > full and string.sub(ARGV[by + 4], full, full) == '1' then keep(at)
    elseif redis.call('ZREM', KEYS[at + 1], ARGV[4]) == 1 then advance(at, by, queues) end
  end
end
if not full then return {1, text(now), look} end
park(4 * full, 3 + 5 * full)
return {0, text(now), advance(4 * full, 3 + 5 * full, queues), full}
