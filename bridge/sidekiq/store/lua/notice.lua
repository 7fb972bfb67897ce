-- Included by scripts that end a job: adds what Ruby is to be told of that end, and drops the oldest notices.
-- KEYS[at], KEYS[at+1]: bridge:notices, bridge:notices-dropped; absent where there is nothing to tell
-- A list of a wrong type must not undo an end that has begun (Lua does not roll back): hence pcall.
local function note(at, entry, most)
  if not KEYS[at] then return end
  local length = redis.pcall('LPUSH', KEYS[at], entry)
  if type(length) == 'number' and length > tonumber(most) then
    redis.pcall('LTRIM', KEYS[at], 0, most - 1)
    redis.pcall('INCRBY', KEYS[at + 1], length - most)
  end
end
