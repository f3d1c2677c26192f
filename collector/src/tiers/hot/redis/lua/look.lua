-- prefix, identity and floor of a new root
-- Gives the root's identity, its floor, how often something was doubted, and series and own floor, ...
if not valid() then make(ARGV[2], ARGV[3]) end
mend_floors()
local out = { redis.call('HGET', root, 'born'), redis.call('HGET', root, 'floor'), root_number('nd') or 0 }
for _, x in ipairs(redis.call('HGETALL', floors)) do out[#out + 1] = x end
return out
