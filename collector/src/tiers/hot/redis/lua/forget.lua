-- prefix, identity and floor of a new root, moment before which nothing is proved any more
if not valid() then make(ARGV[2], ARGV[3]) end
raise_all(tonumber(ARGV[4]))
return redis.call('HGET', root, 'born')
