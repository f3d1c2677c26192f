-- prefix, start of what is kept; then series, ...
-- Gives for each its newest value, empty when there is none, and from when on none that is stored can be newer, or nothing.
local kept, out = tonumber(ARGV[2]), {}
local sure = valid() and has_latest()
for i = 3, #ARGV do
  out[#out + 1] = redis.call('HGET', latest, ARGV[i]) or ''
  out[#out + 1] = sure and num(math.max(kept, floor_of(ARGV[i]))) or ''
end
return out
