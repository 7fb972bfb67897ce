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
