-- prefix, start of what is kept; then series, ...
-- Gives for each its newest value, empty when there is none, and from when on none that is stored can be newer, or nothing.
local kept, out, first = tonumber(ARGV[2]), {}, 3
local sure, floor = valid() and has_latest(), 0
if sure then
  mend_floors()
  floor = math.max(kept, root_number('floor'))
end
local own = sure and root_number('nf') > 0
while first <= #ARGV do
  local values = fields(latest, first)
  local floors_of = own and fields(floors, first) or {}
  for i = 1, math.min(CHUNK, #ARGV - first + 1) do
    out[#out + 1] = values[i] or ''
    out[#out + 1] = sure and num(math.max(floor, tonumber(floors_of[i] or 0))) or ''
  end
  first = first + CHUNK
end
return out
