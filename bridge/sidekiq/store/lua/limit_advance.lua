-- Lets waiting jobs of one gate go while there is room: a limit has changed, a place has expired, a rate allows the next start.
-- KEYS  1..4, 5..8 of the gate (limit_gate.lua)  9.. queue:<name> of queues that jobs may go to
-- ARGV  1..4 of the gate
-- Result {now in s, when a worker must look again or "", score of the head of the line or ""}
--@include limit_gate
--@include limit_clock
--@include limit_rate
--@include limit_room
--@include limit_line
--@include limit_send
--@include limit_turn
--@include limit_next

-- Whether a job that has left the line is still at the end of one of the queues.
local function in_queue(id)
  for i = 9, #KEYS do
    for last = -1, -20 - taken(KEYS[6]), -1 do
      local payload = redis.pcall('LINDEX', KEYS[i], last)
      if type(payload) ~= 'string' then break end
      if string.find(payload, id, 1, true) or 'sha1:' .. redis.sha1hex(payload) == id then return true end
    end
  end
end

-- While it is there, all workers are busy, and it stays the next one. If it is not, a process that does not know the limit has taken
-- it, and takes no place for it: the next one may go.
local overdue = text(now + RESERVED - CLAIMED)
for _, id in ipairs(#KEYS > 8 and redis.call('ZRANGEBYSCORE', KEYS[6], '(' .. text(now), overdue, 'LIMIT', 0, 10) or {}) do
  redis.call('ZADD', KEYS[6], text(in_queue(id) and now + 1.5 * RESERVED or now), id)
end
local look = advance(5, 1, 9)
return {text(now), look, redis.call('ZRANGE', KEYS[7], 0, 0, 'WITHSCORES')[2] or ''}
