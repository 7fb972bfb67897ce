-- Moves a stretch of one line to a later time, the last job first: its order is kept, whenever this ends.
-- KEYS  1 schedule  2 waiting jobs of a gate  3 bridge:lines
-- ARGV  1 score to begin at ("(" before it: below it; "+inf" = the whole line)  2 s to add  3 most jobs  4 "<limit>:<key>"
-- Result {the lowest score that was moved, as it was before, or "" at the end, or while another worker is at it, id and score of each
-- job of the line that is not in schedule, ...}: it leaves the line, for a person has deleted it
--@include limit_renewal
local line = redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
if not line[1] then return {''} end
local most, found = 4 * ARGV[3], {}
local entries = redis.call('ZRANGEBYSCORE', KEYS[1], line[#line], line[2], 'WITHSCORES', 'LIMIT', 0, most)
if #entries == 2 * most then
  -- Many other jobs are scheduled between them: each one is looked for.
  entries = {}
  for i = 2, #line, 2 do
    for _, payload in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], line[i], line[i])) do
      entries[#entries + 1] = payload; entries[#entries + 1] = line[i]
    end
  end
end
for i = 1, #entries, 2 do
  local score = entries[i + 1]
  found[score] = found[score] or {}
  table.insert(found[score], entries[i])
end
local reply, gone, scheduled, waiting = {line[#line]}, {}, {}, {}
for i = 1, #line, 2 do
  local id, moved = string.match(line[i], '^%S+'), string.format('%.7f', line[i + 1] + ARGV[2])
  gone[#gone + 1] = line[i]
  local payload = payload_of(id, found[line[i + 1]])
  if payload then
    scheduled[#scheduled + 1] = moved; scheduled[#scheduled + 1] = payload
    waiting[#waiting + 1] = moved; waiting[#waiting + 1] = line[i]
  else
    reply[#reply + 1] = id; reply[#reply + 1] = line[i + 1]
  end
end
redis.call('ZREM', KEYS[2], unpack(gone))
if waiting[1] then redis.call('ZADD', KEYS[1], unpack(scheduled)); redis.call('ZADD', KEYS[2], unpack(waiting)) end
return reply
