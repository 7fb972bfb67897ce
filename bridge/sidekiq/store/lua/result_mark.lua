-- Notes that a tracked job waits, runs, or has come so far. Its end is result_settled's to write.
-- KEYS  1 bridge:result:<jid>  2 bridge:results  3 bridge:inflight:<identity> of the worker that runs it; absent elsewhere
-- ARGV  1..5 see result_write
--       6 with KEYS 3: token that must be held; else "1": only where this run is noted there
--       7.. names and values in turn ("" removes the field)
-- Result 1, or 0 where the run is over, or is another process's by now (nothing is written)
--@include result_write
if KEYS[3] then
  if redis.call('HEXISTS', KEYS[3], ARGV[6]) == 0 then return 0 end
elseif ARGV[6] == '1' and redis.call('HGET', KEYS[1], 'run') ~= ARGV[5] then
  return 0
end
write(ARGV[4], 7)
return 1
