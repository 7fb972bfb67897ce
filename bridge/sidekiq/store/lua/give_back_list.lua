-- Gives the jobs of another fetcher's private list back to their queue: the first that was taken runs first.
-- KEYS  1 the private list  2 queue:<name>  3 queues  4.. keys of which each exists only while the list's owner lives
-- ARGV  1 most jobs
-- Result: number of jobs moved, or -1 when the owner lives (nothing is moved)
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'list' and found ~= 'none' then return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is not a list') end
for i = 4, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return -1 end
end
local moved = 0
while moved < tonumber(ARGV[1]) and redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') do moved = moved + 1 end
if moved > 0 then redis.call('SADD', KEYS[3], string.sub(KEYS[2], 7)) end
return moved
