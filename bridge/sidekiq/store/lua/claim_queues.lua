-- Included by claim.lua, behind claim_check.lua: closes paused queues, and notes when all queues are empty.
local closed, paused, reply, refused = {}, {}, {'OK', now, '', marks}, nil
for i = 1, redis.call('EXISTS', KEYS[3]) * queues do
  if redis.pcall('SISMEMBER', KEYS[3], string.sub(KEYS[5 + i], 7)) == 1 then
    closed[i] = true; paused[#paused + 1] = i
  end
end
reply[3] = table.concat(paused, ' ')
-- Many queues that are all empty: one is asked to give a job all the same, for a replica says then that it cannot.
local hungry = queues > 4 and redis.call('EXISTS', unpack(KEYS, 6)) == 0
for i = 2, hungry and queues or 0 do closed[i] = true end
