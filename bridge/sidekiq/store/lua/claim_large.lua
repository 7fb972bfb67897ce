-- Takes large jobs from the right end of one queue, each into a list of its own. SORT copies them there without a text of
-- Lua, which hashes every byte of a text: that takes twice as long as all else about 100 KB.
-- KEYS  1 bridge:lease  2 paused  3 bridge:recovering  4 bridge:arrived:<identity>  5 queue:<name>
--       6.. a list for each job, then the queues that come before this one
-- ARGV  1 identity  2 number of lists  3.. name of each list (<number>:<queue>)
-- Result {'OK', now in ms, number of jobs taken (-1 from a paused queue), 1 if recovered jobs wait in queues},
--        {'FENCED'} when the lease is gone, {'EXPIRED'} when it has run out and no reaper took it.
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not lease or tonumber(lease) < 0 then return {'FENCED'} end
if tonumber(lease) < now then return {'EXPIRED'} end

local lists = tonumber(ARGV[2])
if not redis.REDIS_VERSION_NUM then return redis.error_reply('ERR before Redis 7 SORT reads all of a list') end
-- A list that is fenced is a string: this claim was on its way when its worker gave it up.
if redis.call('EXISTS', unpack(KEYS, 6, 5 + lists)) > 0 then return redis.error_reply('LIST used twice') end
-- DEL before SADD: a script whose first write frees memory also runs at maxmemory.
redis.call('DEL', KEYS[6])
redis.call('SADD', KEYS[4], unpack(ARGV, 3))
local recovering = redis.call('EXISTS', KEYS[3])
if redis.pcall('SISMEMBER', KEYS[2], string.sub(KEYS[5], 7)) == 1 then return {'OK', now, -1, recovering} end
local length = redis.call('LLEN', KEYS[5])
local taken = math.min(lists, length)
if #KEYS > 5 + lists and redis.call('EXISTS', unpack(KEYS, 6 + lists)) > 0 then taken = 0 end
if taken == 0 then return {'OK', now, 0, recovering} end
for i = 1, taken do redis.call('SORT', KEYS[5], 'BY', 'nosort', 'LIMIT', length - i, 1, 'STORE', KEYS[5 + i]) end
redis.call('LTRIM', KEYS[5], 0, -(taken + 1))
return {'OK', now, taken, recovering}
