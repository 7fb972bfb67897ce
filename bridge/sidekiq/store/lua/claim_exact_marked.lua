-- As claim_marked.lua, for a claim of jobs that the worker has seen.
-- KEYS  1 bridge:claiming  2.. those of claim_exact.lua
-- ARGV  1 number of jobs with a mark  2.. those of claim_exact.lua
-- Result: that of claim_exact.lua; behind OK {'OK', begin, end of the claim in us, number of jobs with a mark}
--@include claim_note
local began = us()
local function claim(KEYS, ARGV)
--@claim
end
local reply = claim({unpack(KEYS, 2)}, {unpack(ARGV, 2)})
if reply.err or reply[1] ~= 'OK' or reply[3] < 1 then return reply end
local marked = math.min(tonumber(ARGV[1]), reply[3])
note_claim(ARGV[2], began, marked)
reply[1], reply[2] = {'OK', began, us(), marked}, math.floor(began / 1000)
return reply
