-- Pushes many jobs that differ in their id only.
-- KEYS[1]  list
-- ARGV[1]  the job, with @ID@ in place of its id
-- ARGV[2]  number of the first, ARGV[3] number of the last
-- Result: length of the list
local text, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local chunk = {}
for number = first, last do
  chunk[#chunk + 1] = string.gsub(text, '@ID@', string.format('%024x', number))
  if #chunk == 1000 or number == last then
    redis.call('LPUSH', KEYS[1], unpack(chunk))
    chunk = {}
  end
end
return redis.call('LLEN', KEYS[1])
