-- Pushes many jobs that differ in their id only.
-- KEYS[1]  list, or a sorted set
-- ARGV[1]  the job, with @ID@ in place of its id
-- ARGV[2]  number of the first, ARGV[3] number of the last  ARGV[4]  score in the sorted set; "" for a list
-- Result: how many there are
local text, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local chunk = {}
for number = first, last do
  if ARGV[4] ~= '' then chunk[#chunk + 1] = ARGV[4] end
  chunk[#chunk + 1] = string.gsub(text, '@ID@', string.format('%024x', number))
  if #chunk == 1000 or number == last then
    redis.call(ARGV[4] == '' and 'LPUSH' or 'ZADD', KEYS[1], unpack(chunk))
    chunk = {}
  end
end
return redis.call(ARGV[4] == '' and 'LLEN' or 'ZCARD', KEYS[1])
