-- Settles jobs that were performed and are still in the list of a watch: many at once, each only if the list holds it.
-- They have no rows on the Busy page: their runs were too short.
-- KEYS  1 bridge:arrived:<identity>:<watch>  2 stat:processed  3 stat:processed:<day>
-- ARGV  1 TTL of daily counters in s  2.. payloads
-- Result: numbers of the payloads that were not held (fenced), from 0
local fenced = {}
for i = 2, #ARGV do
  -- The watch adds on the left.
  local removed = redis.pcall('LREM', KEYS[1], -1, ARGV[i])
  -- The key of a list that is fenced is a string. Any other error (a replica) says nothing about the jobs.
  if type(removed) == 'table' and not string.find(removed.err, 'WRONGTYPE', 1, true) then return removed end
  if removed ~= 1 then fenced[#fenced + 1] = i - 2 end
end
local done = #ARGV - 1 - #fenced
if done > 0 then
  redis.pcall('INCRBY', KEYS[2], done)
  -- The first of a day. Every other script and Sidekiq set the same TTL.
  if redis.pcall('INCRBY', KEYS[3], done) == done then redis.pcall('EXPIRE', KEYS[3], ARGV[1]) end
end
return fenced
