-- `days` holds `run`, the server's run id, and `gen`, which every key of a kept day has in its name. v:<gen>:<day> holds
-- series -> version, or `x` while it is being changed. What is lost gets versions and generations nobody had before.
-- prefix, what to do, a number nobody had before, milliseconds to live; then ...
local days, verb, fresh, ttl = p .. 'days', ARGV[2], ARGV[3], ARGV[4]
if verb == 'drop' or redis.call('HGET', days, 'run') ~= run then
  redis.call('HSET', days, 'run', run, 'gen', fresh)
end
local gen = redis.call('HGET', days, 'gen')
if not gen then
  gen = fresh
  redis.call('HSET', days, 'gen', gen)
end
local function versions_key(day) return p .. 'v:' .. gen .. ':' .. day end
local function day_key(series, day, bucket) return p .. 'a:' .. gen .. ':' .. series .. ':' .. day .. ':' .. bucket end

-- Version, and what is kept under it or nothing.
local function find(series, day, bucket)
  local key = versions_key(day)
  local version = redis.call('HGET', key, series)
  if version == 'x' then return { 'x', false } end
  if not version then
    redis.call('HSET', key, series, fresh)
    redis.call('PEXPIRE', key, ttl)
    return { fresh, false }
  end
  local kept = redis.call('GET', day_key(series, day, bucket))
  if kept and string.sub(kept, 1, #version + 1) == version .. ':' then
    return { version, string.sub(kept, #version + 2) }
  end
  return { version, false }
end

if verb == 'find' then
  local found = {}
  for i = 7, #ARGV do found[#found + 1] = find(ARGV[5], ARGV[i], ARGV[6]) end
  return found
elseif verb == 'keep' then
  local series, bucket = ARGV[5], ARGV[6]
  for i = 7, #ARGV, 3 do
    local day, version = ARGV[i], ARGV[i + 1]
    if redis.call('HGET', versions_key(day), series) == version then
      redis.call('SET', day_key(series, day, bucket), version .. ':' .. ARGV[i + 2], 'PX', ttl)
    end
  end
elseif verb == 'begin' or verb == 'end' then
  for i = 5, #ARGV, 2 do
    local key = versions_key(ARGV[i + 1])
    if verb == 'begin' then
      redis.call('HSET', key, ARGV[i], 'x')
    else
      redis.call('HDEL', key, ARGV[i]) -- the next to ask gets a fresh one
    end
    redis.call('PEXPIRE', key, ttl)
  end
end
return {}
