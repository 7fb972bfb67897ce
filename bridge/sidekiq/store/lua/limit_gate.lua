-- Included by the limit scripts. A gate is one limit for one key.
-- KEYS[1..4]: schedule, bridge:waiting, bridge:claiming, bridge:lines (limit_missing.lua)
-- KEYS[at..at+3]: its places, its reserved places, its waiting jobs, its starts (limit_rate.lua). "@<id>" among the reserved places:
-- less the time at which a job that has left the line was claimed
-- ARGV[by..by+3]: "<limit>:<key>", most places ("" = any number), s between two starts ("" = none), "<s> <number>" (limit_rate.lua)
-- All times are Redis TIME in s. A place or reservation whose time is over does not count.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function text(seconds) return string.format('%.6f', seconds) end

local function taken(key) return redis.call('ZCOUNT', key, '(' .. text(now), '+inf') end
