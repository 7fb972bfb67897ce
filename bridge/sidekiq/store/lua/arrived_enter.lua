-- Moves one job from the list of a watch into the hash of its worker, under a token. Any settlement may follow.
-- KEYS  1 bridge:inflight:<identity>  2 bridge:arrived:<identity>:<watch>
-- ARGV  1 token  2 entry prefix (format version, queue)  3 payload
-- Result 1, or 0 when the list does not hold the job (fenced; nothing is written)
local removed = redis.pcall('LREM', KEYS[2], -1, ARGV[3])
-- The key of a list that is fenced is a string. Any other error (a replica) says nothing about the job.
if type(removed) == 'table' and not string.find(removed.err, 'WRONGTYPE', 1, true) then return removed end
if removed ~= 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ARGV[3])
return 1
