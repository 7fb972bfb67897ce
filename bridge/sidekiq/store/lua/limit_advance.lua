-- Lets waiting jobs of one gate go while there is room: a limit has changed, a place has expired, a rate allows the next start.
-- KEYS  1 schedule  2 bridge:waiting  3..6 of the gate (limit_gate.lua)  7.. queue:<name> of queues that jobs may go to
-- ARGV  1..4 of the gate
-- Result {now in s, when a worker must look again or "", score of the head of the line or ""}
--@include limit_gate
--@include limit_line
--@include limit_send
--@include limit_next

-- Whether a job that has left the line is still at the end of one of the queues.
local function in_queue(id)
  for i = 7, #KEYS do
    for last = -1, -20 - redis.call('ZCARD', KEYS[4]), -1 do
      local payload = redis.pcall('LINDEX', KEYS[i], last)
      if type(payload) ~= 'string' then break end
      if string.find(payload, id, 1, true) or 'sha1:' .. redis.sha1hex(payload) == id then return true end
    end
  end
end

-- A process that does not know the limit has taken it, and takes no place for it: the next one may go.
local overdue = text(now + RESERVED - CLAIMED)
for _, id in ipairs(#KEYS > 6 and redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. text(now), overdue, 'LIMIT', 0, 10) or {}) do
  if not in_queue(id) then redis.call('ZADD', KEYS[4], text(now), id) end
end
local look = advance(3, 1, 7)
return {text(now), look, redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2] or ''}
