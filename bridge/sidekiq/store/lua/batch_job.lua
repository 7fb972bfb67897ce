-- Effect: tells a batch how a run of one of its jobs ended. A job counts once, however often it runs.
-- KEYS  1 bridge:batch:<bid>  2 bridge:batch:<bid>:jobs
-- ARGV  1 bid  2 jid  3 done, failed, dead; orphan: dead if the settlement buried it (settled == 2)
--@include batch_base
--@include batch_chord
--@include batch_body
--@include batch_fire
--@include batch_count
local event = ARGV[3]
if event == 'orphan' then
  if settled ~= 2 then return 0 end
  event = 'dead'
end
if event == 'done' and is_lost(ARGV[1], ARGV[2]) then event = 'dead' end
if not known(ARGV[1]) or not move(ARGV[1], ARGV[2], event) then return 0 end
climb(ARGV[1], event == 'dead' and ARGV[2])
return 1
