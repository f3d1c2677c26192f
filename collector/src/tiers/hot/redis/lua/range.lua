-- prefix, series, from, first and last hour
-- Gives the floor; and, when that is not above `from`, hour and records, ... Nothing at all when nothing is proved.
local series, from, first, last = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not valid() then return {} end
local floor = floor_of(series)
local out = { num(floor) }
if floor > from then return out end
for _, of in ipairs(hours()) do
  local hour = tonumber(of[1])
  if hour >= first and hour <= last then
    local index, after = index_key(of[1]), (hour + 1) * HOUR
    if redis.call('HGET', index, 't') ~= of[2] then
      raise_all(after)
      return {}
    end
    local have = tonumber(redis.call('HGET', index, series) or 0)
    if have > 0 then
      local records = redis.call('GET', data_key(series, of[1]))
      if not records or #records ~= have * WIDTH then
        raise_one(series, after)
        return {}
      end
      out[#out + 1] = of[1]
      out[#out + 1] = records
    end
  end
end
return out
