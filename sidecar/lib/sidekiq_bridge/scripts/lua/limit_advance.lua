-- Lets waiting jobs of one gate go while there is room: a limit has changed, a place has expired, a rate allows the next start.
-- KEYS  1..4, 5..8 of the gate (limit_gate.lua)  9.. queue:<name> of queues that jobs may go to
-- ARGV  1..4 of the gate
-- Result {now in s, when a worker must look again or "", score of the head of the line or ""}
-- Included by the limit scripts. A gate is one limit for one key.
-- KEYS[1..4]: schedule, bridge:waiting, bridge:claiming, bridge:lines (limit_missing.lua)
-- KEYS[at..at+3]: its places, its reserved places, its waiting jobs, its starts (limit_rate.lua). "@<id>" among the reserved places:
-- less the time at which a job that has left the line was claimed
-- ARGV[by..by+3]: "<limit>:<key>", most places ("" = any number), s between two starts ("" = none), "<s> <number>" (limit_rate.lua)
-- All times are Redis TIME in s. A place or reservation whose time is over does not count.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function text(seconds) return string.format('%.6f', seconds) end

local function taken(key) return redis.call('ZCOUNT', key, '(' .. text(now), '+inf') end
-- Included by the limit scripts, behind limit_gate.lua: the next and the last start that a rate has noted (limit_rate.lua).
-- Redis' clock may go back (NTP, a failover). The starts move with it, so their window holds. Without them a second window would begin.
local ROUNDING = 0.000001

local function moved_back(starts, seconds)
  local times, ttl = redis.call('LRANGE', starts, 0, -1), redis.call('PTTL', starts)
  for i, each in ipairs(times) do times[i] = text(each - seconds) end
  redis.call('DEL', starts)
  redis.call('RPUSH', starts, unpack(times))
  redis.call('PEXPIRE', starts, ttl)
  return times
end

local function known_starts(starts)
  local known = redis.call('LRANGE', starts, 0, 1)
  local ahead = tonumber(known[2] or 0) - now
  if ahead > ROUNDING then known = moved_back(starts, ahead) end
  return tonumber(known[1] or 0), tonumber(known[2] or 0)
end
-- Included by the limit scripts, behind limit_clock.lua: the starts of a gate with a rate of N in a window.
-- KEYS[at+3]: list of the next start by the schedule, and the times of the last starts, the newest one first
-- ARGV[by+3]: "<s by which a start may come early after a late one> <number of last starts>". With 0 of them no more than that is made up.
-- Otherwise LATE s are: each start waits for its time, for the one before it, and for the one that many before it, which keeps the window.
local LATE = 2

local function rate(at, by)
  local interval, early, noted = tonumber(ARGV[by + 2]), string.match(ARGV[by + 3], '^(%S+) (%d+)$')
  local one = {starts = KEYS[at + 3], interval = interval, early = tonumber(early), noted = tonumber(noted)}
  local due, last = known_starts(one.starts)
  -- A slower rate has written it, or Redis' clock went back and no starts are noted: the next one goes now, and makes up for none.
  if due > now + 2 * interval + ROUNDING then due = now end
  -- A start is made up only while jobs wait, so no burst follows a pause.
  local waiting = redis.call('ZCARD', KEYS[at + 2]) + taken(KEYS[at + 1]) > 0
  one.due = math.max(due, waiting and now - (one.noted > 0 and LATE or one.early) or now)
  one.behind_last = last + interval - one.early
  return one
end

-- When a start is allowed that comes behind `ahead` others from now on.
local function behind_window(one, ahead)
  local before = one.noted > 0 and redis.call('LINDEX', one.starts, one.noted - ahead)
  return before and before + one.noted * one.interval - one.early or 0
end

local function next_start(at, by)
  local one = rate(at, by)
  return math.max(one.due, one.behind_last, behind_window(one, 0))
end

local function note_start(at, by)
  local one = rate(at, by)
  local due = one.due + one.interval
  redis.call('LPOP', one.starts)
  redis.call('LPUSH', one.starts, text(now), text(due))
  redis.call('LTRIM', one.starts, 0, one.noted)
  redis.call('EXPIRE', one.starts, math.ceil(math.max(due - now + math.max(LATE, one.early), one.noted * one.interval)))
end
-- Included by the limit scripts, behind limit_rate.lua: how many jobs may go at one gate, and the one that goes.
-- How many starts the rate allows now.
local function free_starts(at, by)
  local one = rate(at, by)
  local least, most = 0, math.max(0, math.floor((now - one.due) / one.interval + 1 + ROUNDING))
  if one.noted > 0 then most = math.min(most, one.noted) end
  if one.interval > one.early then most = math.min(most, one.behind_last <= now + ROUNDING and 1 or 0) end
  while least < most do
    local middle = math.ceil((least + most) / 2)
    if behind_window(one, middle - 1) <= now + ROUNDING then least = middle else most = middle - 1 end
  end
  return least
end

-- How many more jobs may go now.
local function room(at, by)
  local left = math.huge
  if ARGV[by + 1] ~= '' then left = tonumber(ARGV[by + 1]) - taken(KEYS[at]) end
  if ARGV[by + 2] ~= '' then left = math.min(left, free_starts(at, by)) end
  return left - taken(KEYS[at + 1])
end

-- Takes one place for `holder` until `till` (s, or "inf"), and one start.
local function enter(at, by, id, holder, till)
  if ARGV[by + 2] ~= '' then note_start(at, by) end
  redis.call('ZREM', KEYS[at + 1], id, '@' .. id)
  if ARGV[by + 1] ~= '' then
    redis.call('ZADD', KEYS[at], till, holder)
    local last = redis.call('ZRANGE', KEYS[at], -1, -1, 'WITHSCORES')[2]
    if last == 'inf' then redis.call('PERSIST', KEYS[at]) else redis.call('EXPIREAT', KEYS[at], math.ceil(last) + 60) end
  end
end
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
-- Included by the limit scripts, behind limit_gate.lua: how a job leaves the line.
-- Whether a job at the end of its queue has left this line before, and is not claimed yet.
local function left_before(payload, reserved)
  for _, id in ipairs(reserved) do
    if string.find(payload, id, 1, true) then return true end
  end
end

-- Moves a parked job to the end of its queue that runs next, behind those that have left the line before it.
-- A queue that is not among KEYS is the work of a scheduler.
local function send(payload, queue, queues, reserved)
  for i = queues, #KEYS do
    if KEYS[i] == 'queue:' .. queue and type(redis.pcall('LLEN', KEYS[i])) == 'number' then
      local ahead = {}
      for _ = 1, #reserved do
        local last = redis.call('LINDEX', KEYS[i], -1)
        if not last or not left_before(last, reserved) then break end
        ahead[#ahead + 1] = redis.call('RPOP', KEYS[i])
      end
      redis.call('RPUSH', KEYS[i], payload)
      for each = #ahead, 1, -1 do redis.call('RPUSH', KEYS[i], ahead[each]) end
      return redis.call('ZREM', KEYS[1], payload)
    end
  end
  redis.call('ZADD', KEYS[1], text(now), payload)
end
-- Included by the limit scripts, behind limit_line.lua: the order of a line is that of the claims of its jobs. Workers ask for places
-- side by side, so a job waits for jobs of earlier claims. A claim of more than CLAIMED seconds ago does not count: its worker is gone.
-- Seconds by which a line was renewed, since it is there.
local function renewed(by) return tonumber(redis.call('HGET', KEYS[4], ARGV[by]) or 0) / 1000000 end

local function at_its_time(seconds) return string.format('%.7f', seconds) end

-- How many jobs that were claimed before have not asked for their places yet. Of those of `me`, the ones that were told to ask again.
local function claimed_before(ticket, me)
  local jobs = 0
  for _, claim in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], text(now - CLAIMED), '(' .. at_its_time(ticket))) do
    local who, count, again = string.match(claim, '^(%S+) (%d+) (.)')
    if who ~= me or again == '@' then jobs = jobs + tonumber(count) end
  end
  return jobs
end

-- Whether the head of a line must wait for earlier claims.
local function is_early(score, by)
  return redis.call('EXISTS', KEYS[3]) == 1 and claimed_before(tonumber(score) - PARKED - renewed(by)) > 0
end
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

-- Whether a job that has left the line is still at the end of one of the queues.
local function in_queue(id)
  for i = 9, #KEYS do
    for last = -1, -20 - taken(KEYS[6]), -1 do
      local payload = redis.pcall('LINDEX', KEYS[i], last)
      if type(payload) ~= 'string' then break end
      if string.find(payload, id, 1, true) or 'sha1:' .. redis.sha1hex(payload) == id then return true end
    end
  end
end

-- While it is there, all workers are busy, and it stays the next one. If it is not, a process that does not know the limit has taken
-- it, and takes no place for it: the next one may go.
local overdue = text(now + RESERVED - CLAIMED)
for _, id in ipairs(#KEYS > 8 and redis.call('ZRANGEBYSCORE', KEYS[6], '(' .. text(now), overdue, 'LIMIT', 0, 10) or {}) do
  redis.call('ZADD', KEYS[6], text(in_queue(id) and now + 1.5 * RESERVED or now), id)
end
local look = advance(5, 1, 9)
return {text(now), look, redis.call('ZRANGE', KEYS[7], 0, 0, 'WITHSCORES')[2] or ''}
