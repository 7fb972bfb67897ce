-- Included by the limit scripts, behind limit_line.lua: lets waiting jobs go while there is room. Each gets a reserved place,
-- and the right to go before all that wait, even when its reserved time is over. Result: as that of note()
local function advance(at, by, queues)
  redis.call('ZREMRANGEBYSCORE', KEYS[at], '-inf', text(now))
  redis.call('ZREMRANGEBYSCORE', KEYS[at + 1], '-inf', text(now - PARKED))
  local free, looks = room(at, by), 0
  local reserved = free > 0 and redis.call('ZRANGEBYSCORE', KEYS[at + 1], '(' .. text(now), '+inf', 'LIMIT', 0, 10) or {}
  while free > 0 and looks < 200 do
    local head = redis.call('ZRANGE', KEYS[at + 2], 0, 0, 'WITHSCORES')
    if not head[1] then break end
    redis.call('ZREM', KEYS[at + 2], head[1])
    local id, queue = string.match(head[1], '^(%S+) (.*)$')
    local payload = id and parked(head[2], id)
    if payload then
      send(payload, queue, queues, reserved)
      redis.call('ZADD', KEYS[at + 1], text(now + RESERVED), id)
      redis.call('EXPIRE', KEYS[at + 1], 2 * PARKED)
      reserved[#reserved + 1] = id
      free = free - 1
    end
    looks = looks + 1
  end
  local look = note(at, by)
  -- That many jobs of the line were deleted by a person: the next call goes on.
  if looks == 200 and look ~= '' then redis.call('ZADD', KEYS[2], text(now), ARGV[by]) end
  return look
end
