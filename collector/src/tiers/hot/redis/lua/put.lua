-- prefix, identity and floor of a new root, oldest hour kept, most records of a series and hour, number of runs; then
-- per run series, hour, milliseconds to live, records; then series and newest value, ...
-- Gives the root's identity and the bucket's records.
local oldest, most, runs = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if not valid() then make(ARGV[2], ARGV[3]) end

local opened = {}
local function open(hour, ttl)
  if opened[hour] then return end
  opened[hour] = true
  local index, known = index_key(hour), redis.call('HGET', root, 'h' .. hour)
  if known and redis.call('HGET', index, 't') == known then return end
  if known then raise_all((tonumber(hour) + 1) * HOUR) end
  redis.call('DEL', index)
  redis.call('HSET', index, 't', 0)
  redis.call('PEXPIRE', index, ttl)
  redis.call('HSET', root, 'h' .. hour, 0)
  for _, of in ipairs(hours()) do
    if tonumber(of[1]) < oldest then redis.call('HDEL', root, 'h' .. of[1]) end
  end
end

local next_latest = 7
for i = 1, runs do
  local series, hour, ttl, records = ARGV[next_latest], ARGV[next_latest + 1], ARGV[next_latest + 2], ARGV[next_latest + 3]
  next_latest = next_latest + 4
  open(hour, ttl)
  local key, have = data_key(series, hour), tonumber(redis.call('HGET', index_key(hour), series) or 0)
  if have > 0 and redis.call('STRLEN', key) ~= have * WIDTH then
    raise_one(series, (tonumber(hour) + 1) * HOUR)
    count(series, hour, -have)
    have = 0
  end
  if have * WIDTH + #records > most * WIDTH then
    raise_one(series, (tonumber(hour) + 1) * HOUR)
    redis.call('HINCRBY', root, 'evicted', #records / WIDTH)
  else
    if have > 0 then
      redis.call('APPEND', key, records)
    else
      redis.call('SET', key, records, 'PX', ttl)
      -- The hour before is whole now, as a rule: appending left room behind it, which it gives back.
      local before = data_key(series, num(tonumber(hour) - 1))
      local whole = redis.call('GET', before)
      if whole then redis.call('SET', before, whole, 'KEEPTTL') end
    end
    count(series, hour, #records / WIDTH)
  end
end
offer_latest(next_latest)
return { redis.call('HGET', root, 'born'), total() }
