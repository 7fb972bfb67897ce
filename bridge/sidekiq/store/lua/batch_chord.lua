-- Included after batch_base: a chord is a batch whose callback, the body, takes the results of the header in their order.
-- The batch keeps copies of them: a result has a time to live of its own.
local function result(jid) return 'bridge:result:' .. jid end

local function keep(bid, jid)
  if redis.call('HEXISTS', meta(bid), 'chord') == 0 then return end
  local text = redis.call('HGET', result(jid), 'result')
  if text then redis.call('HSET', meta(bid) .. ':results', jid, text) end
end

-- A job of the body begins with this where the list of results belongs before its own arguments.
local PLACE = '{"args":["bridge:results"'

local function with_results(bid, body)
  if string.sub(body, 1, #PLACE) ~= PLACE then return body end
  local order, found = redis.call('LRANGE', meta(bid) .. ':order', 0, -1), {}
  for i = 1, #order, 1000 do
    local texts = redis.call('HMGET', meta(bid) .. ':results', unpack(order, i, math.min(#order, i + 999)))
    for _, text in ipairs(texts) do found[#found + 1] = text or 'null' end
  end
  return '{"args":[[' .. table.concat(found, ',') .. ']' .. string.sub(body, #PLACE + 1)
end
