local settled = 1
-- Effect: tells a batch how a run of one of its jobs ended. A job counts once, however often it runs.
-- KEYS  1 bridge:batch:<bid>  2 bridge:batch:<bid>:jobs
-- ARGV  1 bid  2 jid  3 done, failed, dead; orphan: dead if the settlement buried it (settled == 2)
-- Included first by scripts that move batches on: names, the time, and members that join.
-- The parents of a batch and the queues of its callbacks are data of the batch, so their keys are not in KEYS.
local time = redis.call('TIME')
local seconds = string.format('%d.%06d', time[1], time[2])
local millis = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local function meta(bid) return 'bridge:batch:' .. bid end
local function members(bid) return 'bridge:batch:' .. bid .. ':jobs' end
local function known(bid) return redis.call('HEXISTS', meta(bid), 'created_at') == 1 end

-- A batch stays until its last scheduled job has had its time: batches_prune.lua reads this.
local function stay(bid, at)
  if tonumber(at) > tonumber(redis.call('HGET', meta(bid), 'until') or time[1]) then redis.call('HSET', meta(bid), 'until', at) end
end

-- A batch waits for its members: jids, and "batch:<bid>" of its child batches.
local function join(bid, member)
  if not known(bid) or redis.call('HEXISTS', meta(bid), 'success_at') == 1 then return end
  if redis.call('HSETNX', members(bid), member, 'w') == 1 then
    redis.call('HINCRBY', meta(bid), string.sub(member, 1, 6) == 'batch:' and 'children' or 'total', 1)
  end
end
-- Included after batch_base: a chord is a batch whose callback, the body, takes the results of the header in their order.
-- The batch keeps copies of them: a result has a time to live of its own.
local function result(jid) return 'bridge:result:' .. jid end

local function keep(bid, jid)
  if redis.call('HEXISTS', meta(bid), 'chord') == 0 then return end
  local text = redis.call('HGET', result(jid), 'result')
  if text then redis.call('HSET', meta(bid) .. ':results', jid, text) end
end

-- A job of the body begins with this where the list of results belongs before its own arguments.
local PLACE = '{"args":["bridge:results"'

local function with_results(bid, body)
  if string.sub(body, 1, #PLACE) ~= PLACE then return body end
  local order, found = redis.call('LRANGE', meta(bid) .. ':order', 0, -1), {}
  for i = 1, #order, 1000 do
    local texts = redis.call('HMGET', meta(bid) .. ':results', unpack(order, i, math.min(#order, i + 999)))
    for _, text in ipairs(texts) do found[#found + 1] = text or 'null' end
  end
  return '{"args":[[' .. table.concat(found, ',') .. ']' .. string.sub(body, #PLACE + 1)
end
-- Included after batch_chord: what the body of a chord, and its error handlers, learn of the header.
-- Why the body does not run.
local function reason(dead)
  local class, message, lost = unpack(redis.call('HMGET', result(dead), 'error_class', 'error_message', 'lost'))
  if lost then class, message = 'Bridge::ResultLost', lost end
  return 'Dependency ' .. dead .. ' raised ' .. (class or 'an error') .. ': ' .. (message or '')
end

-- A handler of Celery's form has this where the message of the error belongs.
local REASON = '"bridge:chord_error"'

local function with_reason(job, dead)
  local first, last = string.find(job, REASON, 1, true)
  if not first then return job end
  return string.sub(job, 1, first - 1) .. cjson.encode(reason(dead)) .. string.sub(job, last + 1)
end

-- The job is done, and the body cannot have its result. To a body that takes none it is done.
local function is_lost(bid, jid)
  local chord, body = unpack(redis.call('HMGET', meta(bid), 'chord', 'on_success'))
  return chord and string.find(body or '', PLACE, 1, true) and redis.call('HEXISTS', result(jid), 'lost') == 1
end

-- Writes the state of the jobs that end the body, for AsyncResult.get: queued, or dead with a ChordError.
local function tell_body(bid, dead)
  for jid in string.gmatch(redis.call('HGET', meta(bid), 'chord') or '', '%S+') do
    local key = result(jid)
    redis.call('HDEL', key, 'result', 'error_class', 'error_message', 'finished_at')
    redis.call('HSET', key, 'status', dead and 'dead' or 'queued', 'updated_at', seconds)
    if dead then
      redis.call('HSET', key, 'error_class', 'celery.exceptions.ChordError', 'error_message', reason(dead), 'finished_at', seconds)
    end
    redis.call('EXPIRE', key, 86400)
    redis.pcall('PUBLISH', key, dead and 'dead' or 'queued')
  end
end
-- Included after batch_body: pushes the callbacks of a batch, once each.
-- Each callback is three lines: jid, queue, and the payload without its times and its last brace.
-- A queue that is not a list must not lose the callback: schedule keeps it.
local function fire(bid, kind, parent, dead)
  if redis.call('HSETNX', meta(bid), kind .. '_at', seconds) == 0 then return false end
  local callbacks, stamp, chord = unpack(redis.call('HMGET', meta(bid), 'on_' .. kind, 'stamp', 'chord'))
  local at = stamp == 'ms' and millis or seconds
  if chord and kind == 'success' then tell_body(bid) end
  for jid, queue, job in string.gmatch(callbacks or '', '([^\n]+)\n([^\n]+)\n([^\n]+)') do
    if parent then join(parent, jid) end
    if chord and kind == 'success' then job = with_results(bid, job) end
    if chord and dead then job = with_reason(job, dead) end
    job = job .. ',"created_at":' .. at .. ',"enqueued_at":' .. at .. '}'
    redis.pcall('SADD', 'queues', queue)
    local pushed = redis.pcall('LPUSH', 'queue:' .. queue, job)
    if type(pushed) == 'table' then redis.call('ZADD', 'schedule', seconds, job) end
  end
  return true
end
-- Included after batch_fire: counts ends of members, up to the outermost batch. A member is w (has not run),
-- f (failed and runs again, or a child batch that is complete) or d (dead). Done ones are gone.
local function move(bid, member, event)
  local was, now = redis.call('HGET', members(bid), member), ({failed = 'f', dead = 'd'})[event]
  if not was or not event or was == now then return false end
  if now then redis.call('HSET', members(bid), member, now) else redis.call('HDEL', members(bid), member); keep(bid, member) end
  local child = string.sub(member, 1, 6) == 'batch:'
  local function add(name, is, before) redis.call('HINCRBY', meta(bid), name, (is and 1 or 0) - (before and 1 or 0)) end
  add('ran', now, was ~= 'w')
  if child then add('children', now, true) else add('failed', now == 'f', was == 'f'); add('dead', now == 'd', was == 'd') end
  redis.call('HSET', meta(bid), 'moved_at', seconds)
  return true
end

-- A finished batch stays readable for a day, so that a late job is refused with its reason.
local function retire(bid)
  for _, part in ipairs({'', ':order', ':results'}) do redis.call('EXPIRE', meta(bid) .. part, 86400) end
  redis.call('ZADD', 'bridge:batches', time[1] + 86400, bid)
end

-- Returns what its parent is told: failed (all have run once), done, or nil.
local function evaluate(bid, parent)
  local open, ran = unpack(redis.call('HMGET', meta(bid), 'open', 'ran'))
  local left = redis.call('HLEN', members(bid))
  if open or left > tonumber(ran) then return nil end
  local event = fire(bid, 'complete', parent) and 'failed' or nil
  if left == 0 and fire(bid, 'success', parent) then retire(bid); event = 'done' end
  return event
end

local function climb(bid, death)
  while bid and known(bid) do
    local parent = redis.call('HGET', meta(bid), 'parent')
    if death and fire(bid, 'death', parent, death) then tell_body(bid, death) end
    local event = evaluate(bid, parent)
    if parent and known(parent) then move(parent, 'batch:' .. bid, event) end
    bid = (event or death) and parent
  end
end
local event = ARGV[3]
if event == 'orphan' then
  if settled ~= 2 then return 0 end
  event = 'dead'
end
if event == 'done' and is_lost(ARGV[1], ARGV[2]) then event = 'dead' end
if not known(ARGV[1]) or not move(ARGV[1], ARGV[2], event) then return 0 end
climb(ARGV[1], event == 'dead' and ARGV[2])
return 1
