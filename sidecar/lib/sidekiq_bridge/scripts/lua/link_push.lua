local settled = 1
-- Effect of a settlement: pushes the jobs that follow the one that has ended (Celery's link, link_error and chain).
-- KEYS  1 queues  2 schedule  3.. queue:<name> of each job
-- ARGV  1 what the settlement must have said ("" = anything)  2.. score ("" = now) and payload of each job
if ARGV[1] ~= '' and settled ~= tonumber(ARGV[1]) then return end
for i = 3, #KEYS do
  local score, payload = ARGV[2 * i - 4], ARGV[2 * i - 3]
  if score == '' then
    redis.pcall('SADD', KEYS[1], string.sub(KEYS[i], 7))
    local pushed = redis.pcall('LPUSH', KEYS[i], payload)
    -- A queue of a wrong type: the job waits in schedule, and its promotion says so.
    if type(pushed) == 'table' and pushed.err then redis.call('ZADD', KEYS[2], 0, payload) end
  else
    redis.call('ZADD', KEYS[2], score, payload)
  end
end
