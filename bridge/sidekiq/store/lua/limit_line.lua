-- Included by the limit scripts, behind limit_gate.lua: the line of jobs that wait at one gate. A member of it is
-- "<id> <queue>", and its score is that of the job in schedule. A job that is not there is not in the line either.
local PARKED, RENEWED_BEFORE, RESERVED, CLAIMED = 600, 300, 30, 1

local function parked(score, id)
  for _, payload in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], score, score)) do
    if string.find(payload, id, 1, true) or 'sha1:' .. redis.sha1hex(payload) == id then return payload end
  end
end

-- Notes when a worker must look at this line again. Result: that time; for a rate the exact one.
local function note(at, by)
  local head = redis.call('ZRANGE', KEYS[at + 2], 0, 0, 'WITHSCORES')
  if not head[1] then redis.call('ZREM', KEYS[2], ARGV[by]); redis.call('HDEL', KEYS[4], ARGV[by], '+' .. ARGV[by], '=' .. ARGV[by]); return '' end
  local look, exact = tonumber(head[2]) - RENEWED_BEFORE, nil
  for i = 0, 1 do
    local first = redis.call('ZRANGEBYSCORE', KEYS[at + i], '(' .. text(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local ends = tonumber(first[2] or look)
    -- A job that has left the line is taken soon (limit_advance.lua).
    local taken_by = i == 1 and ends - RESERVED + CLAIMED or 0
    look = math.min(look, taken_by > now and taken_by or ends)
  end
  if ARGV[by + 2] ~= '' and taken(KEYS[at + 1]) == 0 and (ARGV[by + 1] == '' or taken(KEYS[at]) < tonumber(ARGV[by + 1])) then
    exact = next_start(at, by)
    look = math.min(look, exact + 0.25)
  end
  redis.call('ZADD', KEYS[2], text(look), ARGV[by])
  return text(exact or look)
end
