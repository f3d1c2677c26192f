-- prefix, identity and floor of a new root, oldest hour kept, most records of a series and hour, number of runs; then
-- per run series, hour, milliseconds to live, records; then series and newest value, ...
-- Gives the root's identity, the bucket's records, whether anything is newer, and the version of the newest values.
local oldest, most, runs = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if not valid() then make(ARGV[2], ARGV[3]) end

-- Of each hour: how many records its series have, `have`, and by how many they grew in all.
local opened = {}
local function open(hour, ttl, first)
  if opened[hour] then return opened[hour] end
  local index, known = index_key(hour), redis.call('HGET', root, 'h' .. hour)
  if not known or redis.call('HGET', index, 't') ~= known then
    if known then raise_all((tonumber(hour) + 1) * HOUR) end
    redis.call('DEL', index)
    redis.call('HSET', index, 't', 0)
    redis.call('PEXPIRE', index, ttl)
    redis.call('HSET', root, 'h' .. hour, 0)
    for _, of in ipairs(hours()) do
      if tonumber(of[1]) < oldest then redis.call('HDEL', root, 'h' .. of[1]) end
    end
  end
  local of, names = { have = {}, grown = 0 }, {}
  for run = first, runs do
    if ARGV[4 * run + 4] == hour then names[#names + 1] = ARGV[4 * run + 3] end
  end
  for n, have in ipairs(redis.call('HMGET', index, unpack(names))) do of.have[names[n]] = tonumber(have or 0) end
  opened[hour] = of
  return of
end

for run = 1, runs do
  local series, hour, ttl, records = unpack(ARGV, 4 * run + 3, 4 * run + 6)
  local of, key = open(hour, ttl, run), data_key(series, hour)
  local have, more = of.have[series], #records / WIDTH
  if have > 0 and redis.call('STRLEN', key) ~= have * WIDTH then
    raise_one(series, (tonumber(hour) + 1) * HOUR)
    of.grown, have = of.grown - have, 0
  end
  if have + more > most then
    raise_one(series, (tonumber(hour) + 1) * HOUR)
    redis.call('HINCRBY', root, 'evicted', more)
    more = 0
  elseif have > 0 then
    redis.call('APPEND', key, records)
  else
    redis.call('SET', key, records, 'PX', ttl)
    -- The hour before is whole now, as a rule: appending left room behind it, which it gives back.
    local before = data_key(series, num(tonumber(hour) - 1))
    local whole = redis.call('GET', before)
    if whole then redis.call('SET', before, whole, 'KEEPTTL') end
  end
  of.grown, of.have[series] = of.grown + more, have + more
end
for hour, of in pairs(opened) do
  local counts = {}
  for series, have in pairs(of.have) do
    counts[#counts + 1] = series
    counts[#counts + 1] = have
  end
  redis.call('HSET', index_key(hour), unpack(counts))
  redis.call('HINCRBY', index_key(hour), 't', of.grown)
  redis.call('HINCRBY', root, 'h' .. hour, of.grown)
end
local changed, version = offer_latest(4 * runs + 7)
return { redis.call('HGET', root, 'born'), total(), changed, version }
