-- Pushes one slice of a batch's jobs: each enters its queue (or schedule) in the step in which the batch counts it.
-- KEYS  1 bridge:batch:<bid>  2 bridge:batch:<bid>:jobs  3 bridge:batches  4 bridge:batch-push:<token>  5 queues  6 schedule  7.. queue:<name>
-- ARGV  1 bid  2 number of this slice, from 1: a repeated one does nothing  3 "open" (a new batch) or "add"  4 1 = last slice
--       5 jid of the job that adds ("" = none)  6 TTL of a batch in s  7 number of field names and values  8.. these, of a new batch
--       then of each job: jid ("" = the batch does not wait for it), its queue's place in KEYS or @<score> or 0 (pushed elsewhere; +: its result has a place), payload
-- Result number of jobs so far, or an error: BATCHGONE, BATCHFINISHED
--@include counters
--@include batch_base
--@include batch_chord
--@include batch_body
--@include batch_fire
--@include batch_count
local bid, slice, new, jobs = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'open', 8 + ARGV[7]
for i = 7, #KEYS do
  local wrong = check(KEYS[i], 'list')
  if wrong then return wrong end
end
if tonumber(redis.call('GET', KEYS[4]) or 0) >= slice then return redis.call('HLEN', KEYS[2]) end
if new and slice == 1 then
  redis.call('HSET', KEYS[1], 'created_at', seconds, 'open', 1, 'ran', 0, 'dead', 0, 'total', 0, unpack(ARGV, 8, jobs - 1))
  redis.call('ZADD', KEYS[3], time[1] + ARGV[6], bid)
end
local created, parent, complete, success = unpack(redis.call('HMGET', KEYS[1], 'created_at', 'parent', 'complete_at', 'success_at'))
if not created then return redis.error_reply('BATCHGONE ' .. bid) end
if success or complete and redis.call('HEXISTS', KEYS[2], ARGV[5]) == 0 then return redis.error_reply('BATCHFINISHED ' .. (success or complete)) end
for i = jobs, #ARGV, 3 do
  local place = ARGV[i + 1]
  if ARGV[i] ~= '' then join(bid, ARGV[i]) end
  if place == '+' then redis.call('RPUSH', KEYS[1] .. ':order', ARGV[i])
  elseif string.sub(place, 1, 1) == '@' then
    stay(bid, string.sub(place, 2))
    redis.call('ZADD', KEYS[6], string.sub(place, 2), ARGV[i + 2])
  elseif place ~= '0' then redis.call('LPUSH', KEYS[tonumber(place)], ARGV[i + 2]) end
end
for i = 7, #KEYS do redis.pcall('SADD', KEYS[5], string.sub(KEYS[i], 7)) end
redis.call('SET', KEYS[4], slice, 'EX', 3600)
if ARGV[4] ~= '1' then return redis.call('HLEN', KEYS[2]) end
if new then redis.call('HDEL', KEYS[1], 'open'); if parent then join(parent, 'batch:' .. bid) end end
climb(bid)
return redis.call('HLEN', KEYS[2])
