-- prefix, start of what is kept; then series, ...
-- Gives from when on none that is stored can be newer than the newest value, the root's identity and the version of the
-- newest values, or three times nothing; how many series have a floor of their own; then the newest value of each, empty
-- when there is none; and when some have a floor of their own, that of each, empty for those that have none.
local kept, first = tonumber(ARGV[2]), 3
local out = { '', '', '', '0' }
if valid() then
  mend_floors()
  local known = redis.call('HMGET', root, 'born', 'lv', 'nf')
  out = { num(math.max(kept, root_number('floor'))), known[1], known[2] or '0', known[3] }
end
local function append(hash)
  for n = first, #ARGV, CHUNK do
    local values = fields(hash, n)
    for i = 1, math.min(CHUNK, #ARGV - n + 1) do out[#out + 1] = values[i] or '' end
  end
end
append(latest)
if out[4] ~= '0' then append(floors) end
return out
