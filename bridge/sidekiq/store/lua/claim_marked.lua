-- A claim of a worker with limits. It notes how many of its jobs may have one, until the worker has asked for their places
-- (limit_claimed.lua): limit_turn.lua keeps jobs of later claims behind them.
-- KEYS  1 bridge:claiming  2.. those of claim.lua
-- ARGV  1 number of marks  2.. marks: a text in the payloads of jobs with a limit, or "queue:<name>"; then those of claim.lua
-- Result: that of claim.lua; behind OK {'OK', begin, end of the claim in us, number of jobs with a mark}
--@include claim_note
local marks, began = tonumber(ARGV[1]), us()
local function claim(KEYS, ARGV)
--@claim
end
local reply = claim({unpack(KEYS, 2)}, {unpack(ARGV, marks + 2)})
if reply.err or reply[1] ~= 'OK' then return reply end

local function is_marked(queue, payload)
  for i = 2, marks + 1 do
    if ARGV[i] == queue or string.find(payload, ARGV[i], 1, true) then return true end
  end
end

local marked = 0
for i = 5, #reply, 2 do
  if is_marked(KEYS[6 + reply[i]], reply[i + 1]) then marked = marked + 1 end
end
note_claim(ARGV[marks + 2], began, marked)
reply[1], reply[2] = {'OK', began, us(), marked}, math.floor(began / 1000)
return reply
