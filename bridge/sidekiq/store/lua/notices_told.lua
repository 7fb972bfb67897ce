-- Forgets a notice that a sidecar has acknowledged.
-- KEYS  1 bridge:notices  2 bridge:telling  3 dead
-- ARGV  1 notice  2 its id  3 payload that leaves the dead set ("" = none): the app's own hook discarded the job
-- Result 1, or 0 when another worker was told so too
redis.call('HDEL', KEYS[2], ARGV[2])
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if ARGV[3] ~= '' then redis.pcall('ZREM', KEYS[3], ARGV[3]) end
return 1
