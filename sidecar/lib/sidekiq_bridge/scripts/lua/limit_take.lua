-- Takes a place at each gate of one claimed job, or parks the job in schedule, behind the line of the last gate that is full.
-- KEYS  1 schedule  2 bridge:waiting  3 bridge:inflight:<identity>  4.. four for each gate (limit_gate.lua), narrow gates last
--       then: queue:<name> of queues that jobs may go to
-- ARGV  1 token ("" = a process without a lease)  2 holder  3 end of its places in s ("inf" = freed by its settlement)
--       4 id of the job  5 its queue  6 its payload  7 TIME in s of its claim ("" = now)  8.. five for each gate: four (limit_gate.lua),
--       and one digit for each gate: 1 = it keeps a place here while it waits there
-- Result {1, now, when a worker must look again or ""} may run, {0, now, the same, number of the gate} parked,
--        {-1} this worker does not hold the job (fenced; nothing is written)
-- Included by the limit scripts. A gate is one limit for one key.
-- KEYS[1], KEYS[2]: schedule, bridge:waiting. KEYS[at..at+3]: its places, its reserved places, its waiting jobs, its next start
-- ARGV[by..by+3]: "<limit>:<key>", most places ("" = any number), s between two starts ("" = none), s by which a start may catch up
-- All times are Redis TIME in s. A place or reservation whose time is over does not count.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function text(seconds) return string.format('%.6f', seconds) end

local function taken(key) return redis.call('ZCOUNT', key, '(' .. text(now), '+inf') end

-- A start may catch up only while jobs wait, so no burst follows a pause.
local function next_start(at, by)
  local waiting = redis.call('ZCARD', KEYS[at + 2]) + taken(KEYS[at + 1]) > 0
  return math.max(tonumber(redis.call('GET', KEYS[at + 3]) or 0), waiting and now - tonumber(ARGV[by + 3]) or now)
end

-- How many more jobs may go now.
local function room(at, by)
  local left = math.huge
  if ARGV[by + 1] ~= '' then left = tonumber(ARGV[by + 1]) - taken(KEYS[at]) end
  if ARGV[by + 2] ~= '' then
    left = math.min(left, math.max(0, math.floor((now - next_start(at, by)) / tonumber(ARGV[by + 2]) + 1.000001)))
  end
  return left - taken(KEYS[at + 1])
end

-- Takes one place for `holder` until `till` (s, or "inf"), and one start.
local function enter(at, by, id, holder, till)
  local after = ARGV[by + 2] ~= '' and next_start(at, by) + tonumber(ARGV[by + 2])
  redis.call('ZREM', KEYS[at + 1], id)
  if ARGV[by + 1] ~= '' then
    redis.call('ZADD', KEYS[at], till, holder)
    local last = redis.call('ZRANGE', KEYS[at], -1, -1, 'WITHSCORES')[2]
    if last == 'inf' then redis.call('PERSIST', KEYS[at]) else redis.call('EXPIREAT', KEYS[at], math.ceil(last) + 60) end
  end
  if after then redis.call('SET', KEYS[at + 3], text(after), 'EX', math.max(1, math.ceil(after - now + tonumber(ARGV[by + 3])))) end
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
  if not head[1] then redis.call('ZREM', KEYS[2], ARGV[by]); return '' end
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
-- Included by limit_take.lua, behind limit_line.lua: who may go.
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
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[3], ARGV[1]) == 0 then return {-1} end
local gates, full, look = (#ARGV - 7) / 5, nil, ''
local queues = 4 + 4 * gates
for gate = gates, 1, -1 do
  if not full and not may_go(4 * gate, 3 + 5 * gate) then full = gate end
end
-- A schedule of a wrong type is an error here: behind the HDEL it would cost the job.
if full then redis.call('ZCARD', KEYS[1]) end
if full and ARGV[1] ~= '' then redis.call('HDEL', KEYS[3], ARGV[1]) end
for gate = 1, gates do
  local at, by = 4 * gate, 3 + 5 * gate
  if not full then
    enter(at, by, ARGV[4], ARGV[2], ARGV[3])
    redis.call('ZREM', KEYS[at + 2], member)
    local next_look = redis.call('EXISTS', KEYS[at + 2]) == 1 and advance(at, by, queues) or ''
    if next_look ~= '' and (look == '' or tonumber(next_look) < tonumber(look)) then look = next_look end
  elseif gate ~= full then
    redis.call('ZREM', KEYS[at], ARGV[2])
    if gate > full and string.sub(ARGV[by + 4], full, full) == '1' then keep(at)
    elseif redis.call('ZREM', KEYS[at + 1], ARGV[4]) == 1 then advance(at, by, queues) end
  end
end
if not full then return {1, text(now), look} end
park(4 * full, 3 + 5 * full)
return {0, text(now), advance(4 * full, 3 + 5 * full, queues), full}
