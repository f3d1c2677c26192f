-- prefix; then series and newest value, ...
-- Gives the root's identity, whether anything is newer, and the version of the newest values; 0 when there is no root.
local changed, version = offer_latest(2)
return { valid() and redis.call('HGET', root, 'born') or 0, changed, version }
