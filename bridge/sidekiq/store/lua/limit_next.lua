-- Included by the limit scripts, behind limit_turn.lua: lets waiting jobs go while there is room. Each gets a reserved place,
-- and the right to go before all that wait, even when its reserved time is over. Result: as that of note()
local DAY, SOON = 86400, 0.02

local function leave(at, by, head, score, queues, reserved)
  redis.call('ZREM', KEYS[at + 2], head)
  local id, queue = string.match(head, '^(%S+) (.*)$')
  local payload = id and parked(score, id)
  if not payload then return false end
  send(payload, queue, queues, reserved)
  reserved[#reserved + 1] = id
  redis.call('ZADD', KEYS[at + 1], text(now + RESERVED), id, at_its_time(PARKED + renewed(by) - score), '@' .. id)
  redis.call('EXPIRE', KEYS[at + 1], 2 * PARKED)
  return true
end

local function advance(at, by, queues)
  redis.call('ZREMRANGEBYSCORE', KEYS[at], '-inf', text(now))
  redis.call('ZREMRANGEBYSCORE', KEYS[at + 1], text(DAY - now), text(now - PARKED))
  local free, looks, early = room(at, by), 0, false
  local reserved = free > 0 and redis.call('ZRANGEBYSCORE', KEYS[at + 1], '(' .. text(now), '+inf', 'LIMIT', 0, 10) or {}
  while free > 0 and looks < 200 do
    local head = redis.call('ZRANGE', KEYS[at + 2], 0, 0, 'WITHSCORES')
    early = head[1] and is_early(head[2], by)
    if not head[1] or early then break end
    if leave(at, by, head[1], head[2], queues, reserved) then free = free - 1 end
    looks = looks + 1
  end
  local look = note(at, by)
  -- That many jobs of the line were deleted by a person: the next call goes on. An early head waits for the end of a claim, which tells.
  if (looks == 200 or early) and look ~= '' then redis.call('ZADD', KEYS[2], early and 0 or text(now), ARGV[by]) end
  return early and tonumber(look) < now + SOON and text(now + SOON) or look
end
