-- Effect of a settlement: the job's end, and its result, in the hash of a tracked job.
-- KEYS  1 bridge:result:<jid>  2 bridge:results
-- ARGV  1..5 see result_write
--       6 "1": only where the hash exists
--       7 status of an orphaned job that is given back, without the fields ("" = not orphaned)
--       8.. names and values in turn ("" removes the field)
--@include result_write
if ARGV[6] == '1' and redis.call('EXISTS', KEYS[1]) == 0 then return end
if ARGV[7] ~= '' and settled ~= 2 then
  write(ARGV[7], #ARGV + 1)
else
  write(ARGV[4], 8)
end
