-- prefix, number of runs; then per run series, hour, records; then series and newest value, ...
-- These records go, wherever they stand, and these newest values. Whatever else is proved stays proved.
local REVISION = '\255\255\255\255'

-- A revision and the record that it belongs to are one entry.
local function entries(records)
  local at = 1
  return function()
    if at > #records then return nil end
    local first = at
    at = at + (string.sub(records, at, at + 3) == REVISION and 2 or 1) * WIDTH
    return string.sub(records, first, at - 1)
  end
end

local function withdraw(series, hour, records)
  local key, have = data_key(series, hour), tonumber(redis.call('HGET', index_key(hour), series) or 0)
  local held = redis.call('GET', key)
  if not held or #held ~= have * WIDTH then return end -- it proves nothing anyway
  local gone, stay = {}, {}
  for entry in entries(records) do gone[entry] = true end
  for entry in entries(held) do
    if not gone[entry] then stay[#stay + 1] = entry end
  end
  stay = table.concat(stay)
  if #stay > 0 then redis.call('SET', key, stay, 'KEEPTTL') else redis.call('DEL', key) end
  count(series, hour, #stay / WIDTH - have)
end

local runs = tonumber(ARGV[2])
if valid() then
  for run = 1, runs do withdraw(unpack(ARGV, 3 * run, 3 * run + 2)) end
end
for i = 3 * runs + 3, #ARGV, 2 do
  if redis.call('HGET', latest, ARGV[i]) == ARGV[i + 1] then
    local proved = valid()
    redis.call('HDEL', latest, ARGV[i])
    if proved then
      redis.call('HINCRBY', root, 'nl', -1)
      redis.call('HINCRBY', root, 'lv', 1) -- copies of before are not believed any more
    end
  end
end
