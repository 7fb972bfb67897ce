-- Writes the move of one class, unless another command has changed it meanwhile.
-- KEYS  1 bridge:moves
-- ARGV  1 class  2 the field as the caller has read it, '' for none  3 the new field, '' to remove it
-- Result 1, or 0 when the field is another one.
local found = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if found ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
