-- prefix, start of what is kept; then series, ...
-- Gives from when on none that is stored can be newer than the newest value, or nothing; the newest value of each, empty when
-- there is none; and when some have a floor of their own, that of each, empty for those that have none.
local kept, first = tonumber(ARGV[2]), 3
local sure, own = valid() and has_latest(), false
local out = { '' }
if sure then
  mend_floors()
  out[1] = num(math.max(kept, root_number('floor')))
  own = root_number('nf') > 0
end
local function append(hash)
  for n = first, #ARGV, CHUNK do
    local values = fields(hash, n)
    for i = 1, math.min(CHUNK, #ARGV - n + 1) do out[#out + 1] = values[i] or '' end
  end
end
append(latest)
if own then append(floors) end
return out
