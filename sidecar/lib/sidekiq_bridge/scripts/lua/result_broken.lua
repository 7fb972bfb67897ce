local settled = 1
-- Effect of a settlement: tells those who wait for the jobs of a chain that these will never run.
-- KEYS  1.. bridge:result:<jid> of each
-- ARGV  1 what the settlement must have said ("" = anything)  2 now in s  3 error class  4 error message
if ARGV[1] ~= '' and settled ~= tonumber(ARGV[1]) then return end
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'status', 'dead', 'error_class', ARGV[3], 'error_message', ARGV[4],
      'finished_at', ARGV[2], 'updated_at', ARGV[2])
    redis.pcall('PUBLISH', key, 'dead')
  end
end
