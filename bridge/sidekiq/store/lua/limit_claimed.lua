-- A worker has asked for the places of all jobs of a claim: jobs of later claims that wait for it may go.
-- KEYS  1 bridge:claiming  2 bridge:waiting
-- ARGV  1 "<identity> <jobs> <begin>", as claim_note.lua has noted it
-- Result: whether lines wait for it (1 or 0)
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('ZCOUNT', KEYS[2], 0, 0) > 0 and 1 or 0
