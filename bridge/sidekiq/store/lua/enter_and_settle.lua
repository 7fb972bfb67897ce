-- The frame of a script that enters an arrived job into the hash, and then settles it there (see store/arrived_settlement.py).
-- KEYS, ARGV: those of arrived_enter.lua, then those of the settling script
-- Result: that of the settling script, or the error of the first part
local function enter(KEYS, ARGV)
--@enter
end
local function settle(KEYS, ARGV)
--@settle
end
local settling_keys, settling_args = {}, {}
for i = 3, #KEYS do settling_keys[i - 2] = KEYS[i] end
for i = 4, #ARGV do settling_args[i - 3] = ARGV[i] end
local entered = enter(KEYS, ARGV)
if type(entered) == 'table' then return entered end
return settle(settling_keys, settling_args)
