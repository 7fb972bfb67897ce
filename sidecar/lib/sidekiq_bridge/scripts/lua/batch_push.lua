-- Pushes one slice of a batch's jobs: each enters its queue (or schedule) in the step in which the batch counts it.
-- KEYS  1 bridge:batch:<bid>  2 bridge:batch:<bid>:jobs  3 bridge:batches  4 bridge:batch-push:<token>  5 queues  6 schedule  7.. queue:<name>
-- ARGV  1 bid  2 number of this slice, from 1: a repeated one does nothing  3 "open" (a new batch) or "add"  4 1 = last slice
--       5 jid of the job that adds ("" = none)  6 TTL of a batch in s  7 number of field names and values  8.. these, of a new batch
--       then of each job: jid ("" = the batch does not wait for it), its queue's place in KEYS or @<score> or 0 (pushed elsewhere; +: its result has a place), payload
-- Result number of jobs so far, or an error: BATCHGONE, BATCHFINISHED
-- Included by the settlement scripts: adds to Sidekiq's counters of all time and of one UTC day.
-- KEYS[at..at+3]: stat:processed, stat:processed:<day>, stat:failed, stat:failed:<day>
-- A counter of a wrong type must not undo a settlement that has begun (Lua does not roll back): hence pcall.
local function count(at, processed, failed, ttl)
  if processed > 0 then
    redis.pcall('INCRBY', KEYS[at], processed)
    redis.pcall('INCRBY', KEYS[at + 1], processed)
    redis.pcall('EXPIRE', KEYS[at + 1], ttl)
  end
  if failed > 0 then
    redis.pcall('INCRBY', KEYS[at + 2], failed)
    redis.pcall('INCRBY', KEYS[at + 3], failed)
    redis.pcall('EXPIRE', KEYS[at + 3], ttl)
  end
end

local function check(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
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
local bid, slice, new, jobs = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'open', 8 + ARGV[7]
for i = 7, #KEYS do
  local wrong = check(KEYS[i], 'list')
  if wrong then return wrong end
end
if tonumber(redis.call('GET', KEYS[4]) or 0) >= slice then return redis.call('HLEN', KEYS[2]) end
if new and slice == 1 then
  redis.call('HSET', KEYS[1], 'created_at', seconds, 'open', 1, 'ran', 0, 'dead', 0, 'total', 0, unpack(ARGV, 8, jobs - 1))
  redis.call('ZADD', KEYS[3], time[1] + ARGV[6], bid)
end
local created, parent, complete, success = unpack(redis.call('HMGET', KEYS[1], 'created_at', 'parent', 'complete_at', 'success_at'))
if not created then return redis.error_reply('BATCHGONE ' .. bid) end
if success or complete and redis.call('HEXISTS', KEYS[2], ARGV[5]) == 0 then return redis.error_reply('BATCHFINISHED ' .. (success or complete)) end
for i = jobs, #ARGV, 3 do
  local place = ARGV[i + 1]
  if ARGV[i] ~= '' then join(bid, ARGV[i]) end
  if place == '+' then redis.call('RPUSH', KEYS[1] .. ':order', ARGV[i])
  elseif string.sub(place, 1, 1) == '@' then
    stay(bid, string.sub(place, 2))
    redis.call('ZADD', KEYS[6], string.sub(place, 2), ARGV[i + 2])
  elseif place ~= '0' then redis.call('LPUSH', KEYS[tonumber(place)], ARGV[i + 2]) end
end
for i = 7, #KEYS do redis.pcall('SADD', KEYS[5], string.sub(KEYS[i], 7)) end
redis.call('SET', KEYS[4], slice, 'EX', 3600)
if ARGV[4] ~= '1' then return redis.call('HLEN', KEYS[2]) end
if new then redis.call('HDEL', KEYS[1], 'open'); if parent then join(parent, 'batch:' .. bid) end end
climb(bid)
return redis.call('HLEN', KEYS[2])
