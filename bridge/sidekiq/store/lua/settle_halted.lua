-- Forgets a due entry that a worker has taken out of its set and that client middleware has halted. It counts nothing.
-- KEYS  1 bridge:inflight:<identity>
-- ARGV  1 token
-- Result 1, or 0 when this worker does not hold the entry (fenced)
return redis.call('HDEL', KEYS[1], ARGV[1])
