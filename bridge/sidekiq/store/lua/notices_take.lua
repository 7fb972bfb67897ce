-- Takes the oldest notices that no worker is telling. They stay in the list, and are this caller's until their time is over.
-- KEYS  1 bridge:notices  2 bridge:telling  3 bridge:notices-dropped
-- ARGV  1 how many of the oldest to look at  2 most to take  3 most bytes  4 ms for which they are taken  5 boot id to ask
-- Result {how many were dropped since the last call, {notice, tries so far, boot id that was asked before or "", ...}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local dropped, found, size = redis.call('GET', KEYS[3]) or 0, {}, 0
if dropped ~= 0 then redis.call('DEL', KEYS[3]) end
local waiting = redis.call('LRANGE', KEYS[1], -ARGV[1], -1)
if #waiting == 0 then redis.call('DEL', KEYS[2]) end
for i = #waiting, 1, -1 do
  local id = string.match(waiting[i], '^{"id":"([^"]+)"') or ''
  local till, tries, boot = string.match(redis.call('HGET', KEYS[2], id) or '0 0 ', '^(%d+) (%d+) (.*)$')
  local fits = #found < 3 * ARGV[2] and (size == 0 or size + #waiting[i] <= tonumber(ARGV[3]))
  if fits and tonumber(till) <= now then
    redis.call('HSET', KEYS[2], id, string.format('%.0f %s %s', now + ARGV[4], tries, boot ~= '' and boot or ARGV[5]))
    size = size + #waiting[i]
    for _, value in ipairs({waiting[i], tonumber(tries), boot}) do found[#found + 1] = value end
  end
end
return {tonumber(dropped), found}
