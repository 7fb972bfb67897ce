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
