-- Included after batch_fire: counts ends of members, up to the outermost batch. A member is w (has not run),
-- f (failed and runs again, or a child batch that is complete) or d (dead). Done ones are gone.
local function move(bid, member, event)
  local was, now = redis.call('HGET', members(bid), member), ({failed = 'f', dead = 'd'})[event]
  if not was or not event or was == now then return false end
  if now then redis.call('HSET', members(bid), member, now) else redis.call('HDEL', members(bid), member); keep(bid, member) end
  local child = string.sub(member, 1, 6) == 'batch:'
  local function add(name, is, before) redis.call('HINCRBY', meta(bid), name, (is and 1 or 0) - (before and 1 or 0)) end
  add('ran', now, was ~= 'w')
  if child then add('children', now, true) else add('failed', now == 'f', was == 'f'); add('dead', now == 'd', was == 'd') end
  redis.call('HSET', meta(bid), 'moved_at', seconds)
  return true
end

-- A finished batch stays readable for a day, so that a late job is refused with its reason.
local function retire(bid)
  for _, part in ipairs({'', ':order', ':results'}) do redis.call('EXPIRE', meta(bid) .. part, 86400) end
  redis.call('ZADD', 'bridge:batches', time[1] + 86400, bid)
end

-- Returns what its parent is told: failed (all have run once), done, or nil.
local function evaluate(bid, parent)
  local open, ran = unpack(redis.call('HMGET', meta(bid), 'open', 'ran'))
  local left = redis.call('HLEN', members(bid))
  if open or left > tonumber(ran) then return nil end
  local event = fire(bid, 'complete', parent) and 'failed' or nil
  if left == 0 and fire(bid, 'success', parent) then retire(bid); event = 'done' end
  return event
end

local function climb(bid, death)
  while bid and known(bid) do
    local parent = redis.call('HGET', meta(bid), 'parent')
    if death and fire(bid, 'death', parent, death) then tell_body(bid, death) end
    local event = evaluate(bid, parent)
    if parent and known(parent) then move(parent, 'batch:' .. bid, event) end
    bid = (event or death) and parent
  end
end
