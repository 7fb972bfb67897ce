-- Included by limit_take.lua, behind limit_turn.lua: who may go.
local member, me = ARGV[4] .. ' ' .. ARGV[5], string.match(ARGV[2], '^(.*)/')
local ticket, asks_again = tonumber(ARGV[7]) or now, me .. ' 1 @' .. ARGV[4]

-- "yes", "no", or "later": jobs of earlier claims may need the room. A job with a reservation needs only room.
-- Any other also waits behind the line.
local function may_go(at, by)
  if redis.call('ZSCORE', KEYS[at], ARGV[2]) then return 'yes' end
  local reserved = tonumber(redis.call('ZSCORE', KEYS[at + 1], ARGV[4]) or 0)
  local left = room(at, by) + (reserved > now and 1 or 0)
  if left <= 0 then return 'no' end
  if reserved > 0 then return 'yes' end
  local head = redis.call('ZRANGE', KEYS[at + 2], 0, 0, 'WITHSCORES')
  if head[1] and head[1] ~= member and tonumber(head[2]) <= ticket + PARKED + renewed(by) then return 'no' end
  return ARGV[7] ~= '' and ARGV[8] ~= 'now' and claimed_before(ticket, me) >= left and 'later' or 'yes'
end
