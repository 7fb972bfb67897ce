-- Settles large jobs that were performed, each in a list of its own: no byte of them is sent again.
-- They have no rows on the Busy page: their runs were too short.
-- KEYS  1 stat:processed  2 stat:processed:<day>  3.. lists
-- ARGV  1 TTL of daily counters in s
-- Result: numbers of the lists that did not hold a job (fenced), from 0
local fenced = {}
for i = 3, #KEYS do
  -- The key of a list that is fenced is a string.
  local held = redis.pcall('LLEN', KEYS[i])
  if type(held) == 'table' and not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
  if held == 1 then redis.call('DEL', KEYS[i]) else fenced[#fenced + 1] = i - 3 end
end
local done = #KEYS - 2 - #fenced
if done > 0 then
  redis.pcall('INCRBY', KEYS[1], done)
  -- The first of a day. Every other script and Sidekiq set the same TTL.
  if redis.pcall('INCRBY', KEYS[2], done) == done then redis.pcall('EXPIRE', KEYS[2], ARGV[1]) end
end
return fenced
