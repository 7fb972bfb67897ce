-- Takes jobs from the right end of one queue, as long as each still looks like the one that was seen there (native jobs while
-- the sidecar is away). For a large job the caller compares what it has got: to send it here, too, would cost as much as the rest.
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>  3 paused  4 bridge:recovering  5 bridge:fence:<identity>
--       6 queue:<name>
-- ARGV  1 identity  2 first token  3 entry prefix  4.. length, first bytes and last bytes of each job, the one that runs next first
-- Result {'OK', now in ms, number of jobs taken (-1 from a paused queue), 1 if recovered jobs wait in queues}, {'FENCED'} or {'EXPIRED'}
--@include claim_entry
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not lease or tonumber(lease) < 0 then return {'FENCED'} end
if tonumber(lease) < now then return {'EXPIRED'} end
local name, token, taken = string.sub(KEYS[6], 7), tonumber(ARGV[2]), 0
local fence = tonumber(redis.call('GET', KEYS[5]))
if fence and token < fence then return redis.error_reply('LATE claim: its worker has given it up') end
for i = 0, (#ARGV - 6) / 3 do
  if redis.call('HEXISTS', KEYS[2], token + i) == 1 then return redis.error_reply('TOKEN used twice') end
end
if redis.pcall('SISMEMBER', KEYS[3], name) == 1 then return {'OK', now, -1, 0} end
local prefix = ARGV[3] .. name .. '\n'
for i = 4, #ARGV, 3 do
  local found = redis.call('RPOP', KEYS[6])
  if not found then break end
  local first, last = ARGV[i + 1], ARGV[i + 2]
  if #found ~= tonumber(ARGV[i]) or string.sub(found, 1, #first) ~= first or string.sub(found, -#last) ~= last then
    redis.call('RPUSH', KEYS[6], found)
    break
  end
  redis.call('HSET', KEYS[2], token + taken, entry(found, name, prefix))
  taken = taken + 1
end
return {'OK', now, taken, redis.call('EXISTS', KEYS[4])}
