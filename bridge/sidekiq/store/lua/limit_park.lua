-- Included by limit_take.lua, behind limit_may_go.lua: where a job waits.
-- It waits in the line of a wider gate, and is the next one here: the jobs behind it stay in this line.
local function keep(at)
  redis.call('ZADD', KEYS[at + 1], text(now + PARKED), ARGV[4])
  redis.call('EXPIRE', KEYS[at + 1], 2 * PARKED)
end

-- The score is its place in the line, far enough ahead that no scheduler moves it while workers live. Workers park what they
-- claim side by side, so the time of the claim counts. It does not in a line that has been renewed, or that a rate spaces.
local function place_in_line(at, by)
  local waiting, first = KEYS[at + 2], now + PARKED
  if redis.call('ZREM', KEYS[at + 1], ARGV[4]) == 1 then
    local head = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
    return head[1] and head[2] - 0.000002 or first
  end
  -- It left schedule by a person's hand ("Add to queue"): it keeps its place.
  local before = tonumber(redis.call('ZSCORE', waiting, member) or 0)
  if before > now + RENEWED_BEFORE then return before end
  local step = tonumber(ARGV[by + 2]) or 0.000002
  if ARGV[by + 2] ~= '' then first = math.max(first, next_start(at, by) + PARKED) end
  local last = redis.call('ZRANGE', waiting, -1, -1, 'WITHSCORES')
  if ARGV[7] ~= '' and ARGV[by + 2] == '' and tonumber(last[2] or 0) <= first then return ARGV[7] + PARKED end
  return last[1] and math.max(first, last[2] + step) or first
end

local function park(at, by)
  local score, id = text(place_in_line(at, by)), ARGV[4]
  redis.call('ZADD', KEYS[1], score, ARGV[6])
  local twin = redis.call('ZSCORE', KEYS[at + 2], member) and #redis.call('ZRANGEBYSCORE', KEYS[1], score, score) > 1
  -- Of two jobs with one jid only one is in the line. The other is tried again when its time in schedule comes.
  if not twin then redis.call('ZADD', KEYS[at + 2], score, member) end
end
