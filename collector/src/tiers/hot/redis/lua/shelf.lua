-- KEYS: the hash of a kind. Its fields are keys; its values begin with the moment they expire, milliseconds, 16 digits.
-- ARGV: what to do, most values; then key, value, milliseconds
local hash, verb, most, key = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local function value_of(raw)
  if raw and tonumber(string.sub(raw, 1, 16)) > now then return string.sub(raw, 17) end
  return false
end

if verb == 'set' then
  redis.call('HSET', hash, key, string.format('%016.0f', now + tonumber(ARGV[5])) .. ARGV[4])
  if redis.call('HLEN', hash) > most then
    local all, first, first_until = redis.call('HGETALL', hash), nil, nil
    for i = 1, #all, 2 do
      local till = tonumber(string.sub(all[i + 1], 1, 16))
      if till <= now then
        redis.call('HDEL', hash, all[i])
      elseif not first_until or till < first_until then
        first, first_until = all[i], till
      end
    end
    if redis.call('HLEN', hash) > most then redis.call('HDEL', hash, first) end
  end
  return 1
elseif verb == 'get' then
  return value_of(redis.call('HGET', hash, key))
elseif verb == 'remove' then
  local value = value_of(redis.call('HGET', hash, key))
  redis.call('HDEL', hash, key)
  return value and 1 or 0
else
  local all, found = redis.call('HGETALL', hash), {}
  for i = 1, #all, 2 do
    local value = value_of(all[i + 1])
    if value then
      found[#found + 1] = all[i]
      found[#found + 1] = value
    else
      redis.call('HDEL', hash, all[i])
    end
  end
  return found
end
