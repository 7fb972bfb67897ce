-- Notes that a tracked job waits, runs, or has come so far. Its end is result_settled's to write.
-- KEYS  1 bridge:result:<jid>  2 bridge:results  3 bridge:inflight:<identity> of the worker that runs it; absent elsewhere
-- ARGV  1..5 see result_write
--       6 with KEYS 3: token that must be held; else "1": only where this run is noted there
--       7.. names and values in turn ("" removes the field)
-- Result 1, or 0 where the run is over, or is another process's by now (nothing is written)
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
if KEYS[3] then
  if redis.call('HEXISTS', KEYS[3], ARGV[6]) == 0 then return 0 end
elseif ARGV[6] == '1' and redis.call('HGET', KEYS[1], 'run') ~= ARGV[5] then
  return 0
end
write(ARGV[4], 7)
return 1
