-- prefix, series, hour, records it has, records that stay, the series' new floor
-- Drops a series' oldest records, unless they are not what the caller saw. Gives the bucket's records.
local series, hour, have, stay, floor = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
if not valid() then return 0 end
local key = data_key(series, hour)
if tonumber(redis.call('HGET', index_key(hour), series) or 0) == have then
  raise_one(series, floor)
  if #stay > 0 then redis.call('SET', key, stay, 'KEEPTTL') else redis.call('DEL', key) end
  count(series, hour, #stay / WIDTH - have)
  redis.call('HINCRBY', root, 'evicted', have - #stay / WIDTH)
end
return total()
