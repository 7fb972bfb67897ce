-- Refuses from now on every claim that one worker sent before this call and that Redis has not carried out yet.
-- The network delivers the claim of a closed socket when it heals, minutes later.
-- KEYS  1 bridge:inflight:<identity>  2 bridge:fence:<identity>
-- ARGV  1 first token that stays valid  2 TTL in s
-- Result {now in ms, {token in flight, ...}}
-- The fence only rises: this call may be late itself. DEL before SET: a script whose first write frees memory also
-- runs at maxmemory.
local fence = tonumber(redis.call('GET', KEYS[2])) or 0
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[2], string.format('%.0f', math.max(fence, tonumber(ARGV[1]))), 'EX', ARGV[2])
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HKEYS', KEYS[1])}
