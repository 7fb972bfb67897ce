-- Moves due entries from a sorted set into their queues, each only if it is still there (exactly once among competing pollers).
-- KEYS  1 retry or schedule  2 queues  3.. queue:<name>
-- ARGV  three for each entry: number of its queue, member, payload to push
-- Result: how many were there; an error, and nothing is moved, if one of the queues is not a list
for i = 3, #KEYS do
  local found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'list' and found ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is no list') end
end
local moved, known = 0, {}
for i = 1, #ARGV, 3 do
  local queue = KEYS[2 + tonumber(ARGV[i])]
  if redis.call('ZREM', KEYS[1], ARGV[i + 1]) == 1 then
    if not known[queue] then redis.pcall('SADD', KEYS[2], string.sub(queue, 7)); known[queue] = true end
    redis.call('LPUSH', queue, ARGV[i + 2])
    moved = moved + 1
  end
end
return moved
