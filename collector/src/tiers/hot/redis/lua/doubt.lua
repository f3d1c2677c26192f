-- prefix, identity and floor of a new root; then series and moment before which it proves nothing for now, ...
-- Gives for each the own floor that it had, or nothing, and the one that it has.
if not valid() then make(ARGV[2], ARGV[3]) end
mend_floors()
redis.call('HINCRBY', root, 'nd', 1)
local out = {}
for i = 4, #ARGV, 2 do
  local before = redis.call('HGET', floors, ARGV[i])
  raise_one(ARGV[i], tonumber(ARGV[i + 1]))
  out[#out + 1] = before
  out[#out + 1] = redis.call('HGET', floors, ARGV[i])
end
return out
