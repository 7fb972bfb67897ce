-- Included by scripts that move batches on: members join, and callbacks are pushed, each once.
-- The parents of a batch and the queues of its callbacks are data of the batch, so their keys are not in KEYS.
local time = redis.call('TIME')
local seconds = string.format('%d.%06d', time[1], time[2])
local millis = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local function meta(bid) return 'bridge:batch:' .. bid end
local function members(bid) return 'bridge:batch:' .. bid .. ':jobs' end
local function known(bid) return redis.call('HEXISTS', meta(bid), 'created_at') == 1 end

-- A batch waits for its members: jids, and "batch:<bid>" of its child batches.
local function join(bid, member)
  if known(bid) and redis.call('HEXISTS', meta(bid), 'success_at') == 0 and redis.call('HSETNX', members(bid), member, 'w') == 1 then
    redis.call('HINCRBY', meta(bid), string.sub(member, 1, 6) == 'batch:' and 'children' or 'total', 1)
  end
end

-- Each callback is three lines: jid, queue, and the payload without its times and its last brace.
-- A queue that is not a list must not lose the callback: schedule keeps it.
local function fire(bid, kind, parent)
  if redis.call('HSETNX', meta(bid), kind .. '_at', seconds) == 0 then return false end
  local callbacks, stamp = unpack(redis.call('HMGET', meta(bid), 'on_' .. kind, 'stamp'))
  local at = stamp == 'ms' and millis or seconds
  for jid, queue, job in string.gmatch(callbacks or '', '([^\n]+)\n([^\n]+)\n([^\n]+)') do
    if parent then join(parent, jid) end
    job = job .. ',"created_at":' .. at .. ',"enqueued_at":' .. at .. '}'
    redis.pcall('SADD', 'queues', queue)
    local pushed = redis.pcall('LPUSH', 'queue:' .. queue, job)
    if type(pushed) == 'table' then redis.call('ZADD', 'schedule', seconds, job) end
  end
  return true
end
