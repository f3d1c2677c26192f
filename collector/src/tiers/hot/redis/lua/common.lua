-- Every script works on one bucket of series; its keys share a hash tag, so that a cluster keeps them together:
--   root     what is proved: `run`, the server's run and whose copy it was when it was made; `born`, its identity; `floor`, nothing before
--            it is proved; `nf` and `fmax`, number and largest of the series' own floors; `nl`, number of newest
--            values; `lv`, their version; `evicted`; `nd`, how often something was doubted; `h<hour>`, records of that hour
--   floors   series -> its own floor
--   i:<hour> series -> records of that hour; `t`, all of them, which must equal the root's
--   d:<series>:<hour>   the records themselves; the length must equal what i:<hour> says
--   latest   series -> newest value
-- A key that was deleted, evicted, left over from another run of the server or changed by others breaks the chain, and
-- then nothing is proved that rested on it. So does a server that was a replica meanwhile: it gets another replication id.
local root, p = KEYS[1], ARGV[1]
local floors, latest = p .. 'floors', p .. 'latest'
local HOUR, WIDTH, CHUNK = 3600000000, 13, 1000
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  .. ' ' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')

local function num(x) return string.format('%.0f', x) end
local function root_number(field) return tonumber(redis.call('HGET', root, field)) end
-- A root that has lost newest values has lost all: only a filling has them put again.
local function valid()
  return redis.call('HGET', root, 'run') == run and root_number('nl') == redis.call('HLEN', latest)
end

-- Values of a hash for up to CHUNK fields, which ARGV names from `first` on, each `step` places.
local function fields(hash, first, step)
  local names, step = {}, step or 1
  for i = first, math.min(#ARGV, first + (CHUNK - 1) * step), step do names[#names + 1] = ARGV[i] end
  return redis.call('HMGET', hash, unpack(names))
end

local function make(born, floor)
  redis.call('DEL', root, floors)
  redis.call('HSET', root, 'run', run, 'born', born, 'floor', floor, 'nf', 0, 'fmax', 0, 'nl', redis.call('HLEN', latest), 'evicted', 0)
end

-- Nothing of the bucket before `at` is proved any more. A floor that is higher rises as well: who fills in what is below
-- it and began before finds it changed.
local function raise_all(at)
  redis.call('HSET', root, 'floor', num(math.max(at, root_number('floor') + 1)))
end

-- When the series' floors were lost the largest of them holds for all.
local function mend_floors()
  if redis.call('HLEN', floors) ~= root_number('nf') then
    raise_all(root_number('fmax'))
    redis.call('DEL', floors)
    redis.call('HSET', root, 'nf', 0)
  end
end

local function raise_one(series, at)
  mend_floors()
  local old = redis.call('HGET', floors, series)
  if old then at = math.max(at, tonumber(old) + 1) end
  redis.call('HSET', floors, series, num(at))
  if not old then redis.call('HINCRBY', root, 'nf', 1) end
  if at > root_number('fmax') then redis.call('HSET', root, 'fmax', num(at)) end
end

local function floor_of(series)
  mend_floors()
  return math.max(root_number('floor'), tonumber(redis.call('HGET', floors, series) or 0))
end

local function index_key(hour) return p .. 'i:' .. hour end
local function data_key(series, hour) return p .. 'd:' .. series .. ':' .. hour end

local function count(series, hour, by)
  redis.call('HINCRBY', index_key(hour), series, by)
  redis.call('HINCRBY', index_key(hour), 't', by)
  redis.call('HINCRBY', root, 'h' .. hour, by)
end

-- Hours of the bucket with their records.
local function hours()
  local all, found = redis.call('HGETALL', root), {}
  for i = 1, #all, 2 do
    local hour = string.match(all[i], '^h(%d+)$')
    if hour then found[#found + 1] = { hour, all[i + 1] } end
  end
  return found
end

local function total()
  local sum = 0
  for _, of in ipairs(hours()) do sum = sum + tonumber(of[2]) end
  return sum
end

local function newer(a, b)
  if #b ~= 24 then return true end
  local x = { struct.unpack('>I4I4I4I4I4I4', a) }
  local y = { struct.unpack('>I4I4I4I4I4I4', b) }
  for i = 1, 6 do
    if x[i] ~= y[i] then return x[i] > y[i] end
  end
  return false
end

-- ARGV has series and value, ... from `first` on. Gives whether any is newer than what is held, 1 or 0, and the version of
-- what is held now, which is nothing without a root.
local function offer_latest(first)
  local proved, fresh, changed = valid(), 0, 0
  while first <= #ARGV do
    local held, set = fields(latest, first, 2), {}
    for i = 1, math.min(CHUNK, (#ARGV - first + 1) / 2) do
      local series, value = ARGV[first + 2 * i - 2], ARGV[first + 2 * i - 1]
      if not held[i] or newer(value, held[i]) then
        set[#set + 1] = series
        set[#set + 1] = value
      end
      if not held[i] then fresh = fresh + 1 end
    end
    if #set > 0 then
      redis.call('HSET', latest, unpack(set))
      changed = 1
    end
    first = first + 2 * CHUNK
  end
  if not proved then return changed, 0 end
  if fresh > 0 then redis.call('HINCRBY', root, 'nl', fresh) end
  if changed == 1 then redis.call('HINCRBY', root, 'lv', 1) end
  return changed, redis.call('HGET', root, 'lv') or 0
end
