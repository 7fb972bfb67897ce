local settled = 1
-- Effect of a settlement: the job's end, and its result, in the hash of a tracked job.
-- KEYS  1 bridge:result:<jid>  2 bridge:results
-- ARGV  1..5 see result_write
--       6 "1": only where the hash exists
--       7 status of an orphaned job that is given back, without the fields ("" = not orphaned)
--       8.. names and values in turn ("" removes the field)
-- Included by the scripts that write a tracked job's result: sets fields, keeps the index, tells those who wait.
-- KEYS  1 bridge:result:<jid>  2 bridge:results
-- ARGV  1 now in s  2 TTL in s  3 most entries of the index  4 status  5 run ("" = none): a new one removes what the
--       last one left  first.. names and values in turn ("" removes the field)
local function write(status, first)
  if ARGV[5] ~= '' and redis.call('HGET', KEYS[1], 'run') ~= ARGV[5] then
    redis.call('HDEL', KEYS[1], 'at', 'total', 'message', 'state', 'meta', 'result', 'lost',
      'error_class', 'error_message', 'started_at', 'finished_at', 'retry_at')
    redis.call('HSET', KEYS[1], 'run', ARGV[5])
  end
  local gone, set = {}, {'status', status, 'updated_at', ARGV[1]}
  for i = first, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      gone[#gone + 1] = ARGV[i]
    else
      set[#set + 1] = ARGV[i]; set[#set + 1] = ARGV[i + 1]
    end
  end
  redis.call('HSET', KEYS[1], unpack(set))
  if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  -- The index and the message serve pages and waiting processes: the result itself is stored by now.
  redis.pcall('ZADD', KEYS[2], ARGV[1], string.sub(KEYS[1], 15))
  redis.pcall('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[3]) - 1)
  redis.pcall('EXPIRE', KEYS[2], ARGV[2])
  redis.pcall('PUBLISH', KEYS[1], status)
end
if ARGV[6] == '1' and redis.call('EXISTS', KEYS[1]) == 0 then return end
if ARGV[7] ~= '' and settled ~= 2 then
  write(ARGV[7], #ARGV + 1)
else
  write(ARGV[4], 8)
end
