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
