-- Included by scripts that end a job: adds what Ruby is to be told of that end.
-- KEYS[at], KEYS[at+1]: bridge:notices, bridge:notices-dropped; absent where there is nothing to tell
-- most: beyond it the oldest notices are dropped; negative: this one is dropped, because it tells of no death
-- A list of a wrong type must not undo an end that has begun (Lua does not roll back): hence pcall.
local function note(at, entry, most)
  if not KEYS[at] then return end
  local length, room = redis.pcall('LLEN', KEYS[at]), math.abs(most)
  if type(length) ~= 'number' then return end
  local dropped = math.max(0, length + 1 - room)
  if dropped > 0 and tonumber(most) < 0 then
    dropped = 1
  else
    redis.pcall('LPUSH', KEYS[at], entry)
    if dropped > 0 then redis.pcall('LTRIM', KEYS[at], 0, room - 1) end
  end
  if dropped > 0 then redis.pcall('INCRBY', KEYS[at + 1], dropped) end
end
