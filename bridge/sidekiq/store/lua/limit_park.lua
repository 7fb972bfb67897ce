-- Included by limit_take.lua: who may go, and where a job waits.
local member = ARGV[4] .. ' ' .. ARGV[5]

-- A job with a reservation needs only room. Any other also waits behind the line.
local function may_go(at, by)
  if redis.call('ZSCORE', KEYS[at], ARGV[2]) then return true end
  local reserved = tonumber(redis.call('ZSCORE', KEYS[at + 1], ARGV[4]) or 0)
  local left = room(at, by) + (reserved > now and 1 or 0)
  if reserved > 0 then return left > 0 end
  local before = redis.call('ZCARD', KEYS[at + 2])
  return left > 0 and (before == 0 or (before == 1 and redis.call('ZSCORE', KEYS[at + 2], member)))
end

-- The score is its place in the line, far enough ahead that no scheduler moves it while workers live.
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
  return last[1] and math.max(first, last[2] + step) or first
end

local function park(at, by)
  local score, id = text(place_in_line(at, by)), ARGV[4]
  redis.call('ZADD', KEYS[1], score, ARGV[6])
  local twin = redis.call('ZSCORE', KEYS[at + 2], member) and #redis.call('ZRANGEBYSCORE', KEYS[1], score, score) > 1
  -- Of two jobs with one jid only one is in the line. The other is tried again when its time in schedule comes.
  if not twin then redis.call('ZADD', KEYS[at + 2], score, member) end
end
