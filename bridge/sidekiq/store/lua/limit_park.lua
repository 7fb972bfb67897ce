-- Included by limit_take.lua, behind limit_may_go.lua: where a job waits.
-- It waits in the line of a wider gate, and is the next one here: the jobs behind it stay in this line.
local function keep(at, seconds)
  redis.call('ZADD', KEYS[at + 1], text(now + seconds), ARGV[4])
  redis.call('EXPIRE', KEYS[at + 1], 2 * PARKED)
end

-- For limit_missing.lua: the lines where this job keeps a place, and that jobs of this line do.
local function note_kept(by, lines)
  if not lines[1] then redis.call('HDEL', KEYS[4], '#' .. ARGV[4]); return end
  redis.call('HSET', KEYS[4], '#' .. ARGV[4], table.concat(lines, '\n'))
  redis.call('HSETNX', KEYS[4], '=' .. ARGV[by], 0)
end

-- The score is its place in the line, far enough ahead that no scheduler moves it while workers live. The time of its claim
-- counts, and what the line was renewed by since then.
local function place_in_line(at, by)
  local waiting, before = KEYS[at + 2], redis.call('ZSCORE', KEYS[at + 1], '@' .. ARGV[4])
  local place = (before and -tonumber(before) or ticket) + PARKED + renewed(by)
  local was_next = redis.call('ZREM', KEYS[at + 1], ARGV[4], '@' .. ARGV[4]) > 0
  local line = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
  -- It has left this line, and may not run now (a lower limit). It was given back: it is the first.
  if was_next and line[1] and (not before or place < now + RENEWED_BEFORE) then return line[2] - 0.000002 end
  if place < now + RENEWED_BEFORE then place = now + PARKED + renewed(by) end
  -- It left schedule by a person's hand ("Add to queue"): it keeps its place.
  local kept = tonumber(redis.call('ZSCORE', waiting, member) or 0)
  if kept > now + RENEWED_BEFORE then return kept end
  -- A worker of an older release has renewed the line, or Redis' clock went back.
  line = redis.call('ZRANGE', waiting, -1, -1, 'WITHSCORES')
  if line[1] and tonumber(line[2]) > now + PARKED + renewed(by) then return line[2] + 0.000002 end
  return place
end

local function park(at, by)
  local score = at_its_time(place_in_line(at, by))
  redis.call('ZADD', KEYS[1], score, ARGV[6])
  local twin = redis.call('ZSCORE', KEYS[at + 2], member) and #redis.call('ZRANGEBYSCORE', KEYS[1], score, score) > 1
  -- Of two jobs with one jid only one is in the line. The other is tried again when its time in schedule comes.
  if not twin then redis.call('ZADD', KEYS[at + 2], score, member) end
end
