-- Takes up to `want` jobs from the right end of the queues into this worker's in-flight hash.
-- KEYS  1 bridge:lease  2 bridge:inflight:<identity>  3 paused  4 bridge:recovering  5 bridge:fence:<identity>
--       6.. queue:<name>
-- ARGV  1 identity  2 want  3 first token  4 entry prefix (format version)  5.. one visiting order per slot
--       ("2 1 3", weighted queues), or none (strict: as in KEYS)
-- Result {'OK', now in ms, paused queue numbers "1 3", 1 if recovered jobs wait in queues, queue number, payload, queue number, ...},
--        {'FENCED'} when the lease is gone, {'EXPIRED'} when it has run out and no reaper took it.
--@include claim_check
--@include claim_queues
--@include claim_entry

local function take(i, most)
  if closed[i] then return false end
  local found = redis.pcall('RPOP', KEYS[5 + i], most)
  if found and found.err and not string.find(found.err, 'WRONGTYPE', 1, true) then refused = found end
  if not found or found.err then closed[i] = true; return false end
  local entries, name = {}, string.sub(KEYS[5 + i], 7)
  local prefix = ARGV[4] .. name .. '\n'
  for _, payload in ipairs(found) do
    entries[#entries + 1] = token; entries[#entries + 1] = entry(payload, name, prefix)
    reply[#reply + 1] = i; reply[#reply + 1] = payload
    token, want = token + 1, want - 1
  end
  redis.call('HSET', KEYS[2], unpack(entries))
  return true
end

if #ARGV > 4 then
  for slot = 5, #ARGV do
    for i in string.gmatch(ARGV[slot], '%d+') do if take(tonumber(i), 1) then break end end
  end
else
  for i = 1, queues do if want > 0 then take(i, want) end end
end
-- A replica refuses to pop: its queue is not empty.
if refused and token == tonumber(ARGV[3]) then return refused end
return reply
