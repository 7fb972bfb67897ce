-- Included by claim.lua: refuses a claim whose worker has no lease, has used the tokens, or has given it up.
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not lease or tonumber(lease) < 0 then return {'FENCED'} end
if tonumber(lease) < now then return {'EXPIRED'} end

local want, token, queues = tonumber(ARGV[2]), tonumber(ARGV[3]), #KEYS - 5
local tokens = {}
for i = 1, want do tokens[i] = token + i - 1 end
for _, used in ipairs(redis.call('HMGET', KEYS[2], unpack(tokens))) do
  if used then return redis.error_reply('TOKEN used twice') end
end
-- Both keys are missing in nearly all claims: one command asks for both.
local marks = redis.call('EXISTS', KEYS[4], KEYS[5])
if marks > 0 then
  local fence = tonumber(redis.call('GET', KEYS[5]))
  if fence and token < fence then return redis.error_reply('LATE claim: its worker has given it up') end
  if fence then marks = marks - 1 end
end
