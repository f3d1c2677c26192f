-- prefix, identity, floor as it was seen, new floor, doubts as they were seen; then series and own floor as it was seen, ...
-- Everything from the new floor on is there now. Only when nothing happened meanwhile; says whether.
if not valid() or redis.call('HGET', root, 'born') ~= ARGV[2] then return 0 end
mend_floors()
if redis.call('HGET', root, 'floor') ~= ARGV[3] then return 0 end
-- A floor may be where it was and be another one: what is doubted since may not have been there to be read.
if (root_number('nd') or 0) ~= tonumber(ARGV[5]) then return 0 end
if redis.call('HLEN', floors) ~= (#ARGV - 5) / 2 then return 0 end
for i = 6, #ARGV, 2 do
  if redis.call('HGET', floors, ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
if tonumber(ARGV[4]) < tonumber(ARGV[3]) then redis.call('HSET', root, 'floor', ARGV[4]) end
redis.call('DEL', floors)
redis.call('HSET', root, 'nf', 0, 'fmax', 0)
return 1
