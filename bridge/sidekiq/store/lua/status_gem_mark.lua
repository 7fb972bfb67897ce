-- Notes in the hash of the gem sidekiq-status that a tracked job waits, runs, or has come so far.
-- KEYS  1 sidekiq:status:<jid>  2 bridge:inflight:<identity> of the worker that runs it; absent at a push
-- ARGV  1 token that must be held (with KEYS 2)  2.. names and values in turn
-- Result 1, or 0 where the run is over (nothing is written)
if KEYS[2] and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], 1800)
redis.pcall('PUBLISH', 'status_updates', string.sub(KEYS[1], 16))
return 1
