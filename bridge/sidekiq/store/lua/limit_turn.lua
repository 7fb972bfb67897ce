-- Included by the limit scripts, behind limit_line.lua: the order of a line is that of the claims of its jobs. Workers ask for places
-- side by side, so a job waits for jobs of earlier claims. A claim of more than CLAIMED seconds ago does not count: its worker is gone.
-- Seconds by which a line was renewed, since it is there.
local function renewed(by) return tonumber(redis.call('HGET', KEYS[4], ARGV[by]) or 0) / 1000000 end

local function at_its_time(seconds) return string.format('%.7f', seconds) end

-- How many jobs that were claimed before have not asked for their places yet. Of those of `me`, the ones that were told to ask again.
local function claimed_before(ticket, me)
  local jobs = 0
  for _, claim in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], text(now - CLAIMED), '(' .. at_its_time(ticket))) do
    local who, count, again = string.match(claim, '^(%S+) (%d+) (.)')
    if who ~= me or again == '@' then jobs = jobs + tonumber(count) end
  end
  return jobs
end

-- Whether the head of a line must wait for earlier claims.
local function is_early(score, by)
  return redis.call('EXISTS', KEYS[3]) == 1 and claimed_before(tonumber(score) - PARKED - renewed(by)) > 0
end
