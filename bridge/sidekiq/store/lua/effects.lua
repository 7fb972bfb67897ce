-- The end of a composed script: settles with the first of `parts`, then carries out the others, its effects.
-- ARGV 1: number of KEYS and of ARGV of each part, "9 10 3 2". Result: that of the settling part
local sizes, next_key, next_arg = {}, 1, 2
for size in string.gmatch(ARGV[1], '%d+') do sizes[#sizes + 1] = tonumber(size) end

local function share(i)
  local keys, args = {}, {}
  for _ = 1, sizes[2 * i - 1] do keys[#keys + 1] = KEYS[next_key]; next_key = next_key + 1 end
  for _ = 1, sizes[2 * i] do args[#args + 1] = ARGV[next_arg]; next_arg = next_arg + 1 end
  return keys, args
end

local settled = parts[1](share(1))
-- A table is an error, or the tokens that settle_done did not find (composed scripts settle one job).
if settled == 0 or (type(settled) == 'table' and (settled.err or #settled > 0)) then return settled end
for i = 2, #parts do
  local keys, args = share(i)
  -- Lua does not roll back: an error of an effect must not undo the settlement before it.
  local done, failure = pcall(parts[i], keys, args, settled)
  if not done then
    redis.log(redis.LOG_WARNING, 'bridge: an effect of a settlement failed: ' .. tostring(failure.err or failure))
  end
end
return settled
