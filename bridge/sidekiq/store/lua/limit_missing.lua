-- Tells whether a person has deleted jobs of lines: the schedule has fewer entries beside them than at the last look. A job that waits in
-- one line may keep a place at narrower limits, which nothing else would free for ten minutes.
-- bridge:lines  "<line>" us by which it was renewed  "+<line>" time until which one worker renews it  "=<line>" entries of others beside
--               it: its jobs keep places  "#<id>" the lines where a job keeps places, one a line
-- KEYS  1 schedule  2 bridge:lines  3.. waiting jobs of gates
-- ARGV  1.. "<limit>:<key>" of each
-- Result: numbers of the lines that have lost jobs
local found = {}
for i, line in ipairs(ARGV) do
  local waiting = KEYS[i + 2]
  local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')[2]
  if first then
    local last = redis.call('ZRANGE', waiting, -1, -1, 'WITHSCORES')[2]
    local others = redis.call('ZCOUNT', KEYS[1], first, last) - redis.call('ZCARD', waiting)
    local before = tonumber(redis.call('HGET', KEYS[2], '=' .. line) or 0)
    if others < before then found[#found + 1] = i end
    if others ~= before then redis.call('HSET', KEYS[2], '=' .. line, math.max(others, 0)) end
  end
end
return found
