-- Included by limit_take.lua, behind limit_park.lua: what becomes of the job at each gate.
local KEPT = {['1'] = PARKED, ['2'] = 2 * RESERVED}

local function begin(gates)
  local look, queues = '', 6 + 4 * gates
  if gates > 1 then redis.call('HDEL', KEYS[4], '#' .. ARGV[4]) end
  for gate = 1, gates do
    local at, by = 2 + 4 * gate, 4 + 5 * gate
    enter(at, by, ARGV[4], ARGV[2], ARGV[3])
    redis.call('ZREM', KEYS[at + 2], member)
    local next_look = redis.call('EXISTS', KEYS[at + 2]) == 1 and advance(at, by, queues) or ''
    if next_look ~= '' and (look == '' or tonumber(next_look) < tonumber(look)) then look = next_look end
  end
  return {1, text(now), look}
end

local function wait(gates, full)
  local queues, lines = 6 + 4 * gates, {}
  -- A schedule of a wrong type is an error here: behind the HDEL it would cost the job.
  redis.call('ZCARD', KEYS[1])
  if ARGV[1] ~= '' then redis.call('HDEL', KEYS[5], ARGV[1]) end
  for gate = 1, gates do
    local at, by = 2 + 4 * gate, 4 + 5 * gate
    local kept = gate > full and KEPT[string.sub(ARGV[by + 4], full, full)]
    if gate ~= full then redis.call('ZREM', KEYS[at], ARGV[2]) end
    if kept then keep(at, kept); lines[#lines + 1] = ARGV[by]
    elseif gate ~= full then
      redis.call('ZREM', KEYS[at + 1], '@' .. ARGV[4])
      if redis.call('ZREM', KEYS[at + 1], ARGV[4]) == 1 then advance(at, by, queues) end
    end
  end
  local at, by = 2 + 4 * full, 4 + 5 * full
  if gates > 1 then note_kept(by, lines) end
  park(at, by)
  return {0, text(now), advance(at, by, queues), full}
end
