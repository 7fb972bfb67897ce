-- Closes the list of a watch: its jobs move into the hash of its worker, and the list's key becomes a string. From now on Redis
-- refuses that watch (BLMOVE: WRONGTYPE), however late the network delivers it, and leaves the job in its queue.
-- KEYS  1 bridge:inflight:<identity>  2 bridge:arrived:<identity>:<watch>  3 bridge:arrived:<identity>
-- ARGV  1 watch: <number>:<queue>  2 entry prefix (format version, queue)  3 TTL of the string in s (0: no watch is on its way)  4 first token for jobs
--       that the caller does not name  5.. token and payload of each job that it names
-- Result: payloads of the jobs that the caller did not name, the first that arrived first
local unknown = {}
if redis.call('TYPE', KEYS[2]).ok ~= 'string' then
  for i = 5, #ARGV, 2 do
    if redis.call('LREM', KEYS[2], -1, ARGV[i + 1]) == 1 then
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[2] .. ARGV[i + 1])
    end
  end
  local payload = redis.call('RPOP', KEYS[2])
  while payload do
    redis.call('HSET', KEYS[1], string.format('%.0f', tonumber(ARGV[4]) + #unknown), ARGV[2] .. payload)
    unknown[#unknown + 1] = payload
    payload = redis.call('RPOP', KEYS[2])
  end
end
-- DEL before SET: a script whose first write frees memory also runs at maxmemory.
redis.call('DEL', KEYS[2])
if ARGV[3] ~= '0' then redis.call('SET', KEYS[2], 'fenced', 'EX', ARGV[3]) end
redis.call('SREM', KEYS[3], ARGV[1])
return unknown
