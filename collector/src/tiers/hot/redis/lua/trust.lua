-- prefix; then series, own floor as it was raised, and the one before that, 0 for none, ...
-- A floor that somebody has moved since stays where it is.
if not valid() then return end
mend_floors()
for i = 2, #ARGV, 3 do
  local series, raised, before = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('HGET', floors, series) == raised then
    if before == '0' then
      redis.call('HDEL', floors, series)
      redis.call('HINCRBY', root, 'nf', -1)
    else
      redis.call('HSET', floors, series, before)
    end
  end
end
