-- Takes members out of a batch that cannot end by itself: a person deleted their jobs, or its push broke off.
-- KEYS  1 bridge:batch:<bid>  2 bridge:batch:<bid>:jobs
-- ARGV  1 bid  2 close: the process that pushed the batch will not come back ("1")  3.. members
-- Result: how many of them the batch was waiting for, or an error: BATCHGONE
--@include batch_base
--@include batch_chord
--@include batch_body
--@include batch_fire
--@include batch_count
if not known(ARGV[1]) then return redis.error_reply('BATCHGONE ' .. ARGV[1]) end
local gone = 0
for i = 3, #ARGV do
  if move(ARGV[1], ARGV[i], 'done') then gone = gone + 1 end
end
local parent = redis.call('HGET', KEYS[1], 'parent')
if ARGV[2] == '1' and redis.call('HDEL', KEYS[1], 'open') == 1 and parent then join(parent, 'batch:' .. ARGV[1]) end
climb(ARGV[1])
return gone
