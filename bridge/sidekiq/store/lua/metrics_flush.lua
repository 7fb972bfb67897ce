-- Adds one flush of job metrics, once: one that is repeated because its answer was lost, or that comes late, adds nothing.
-- KEYS  1 bridge:flushed:<process>  2.. keys of the Metrics page
-- ARGV  1 number of this flush, which rises  2 TTL of the number in s
--       3 JSON: [[command, which of KEYS, argument, ...], ...]
-- Result 1, or 0 when it was added before. A key of another type costs only what it should have held.
local last = tonumber(redis.call('GET', KEYS[1]) or 0)
if last and last >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for _, words in ipairs(cjson.decode(ARGV[3])) do
  redis.pcall(words[1], KEYS[words[2]], unpack(words, 3))
end
return 1
