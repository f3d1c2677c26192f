-- prefix, series
-- Gives the floor, or nothing when nothing is proved.
if not valid() then return false end
return num(floor_of(ARGV[2]))
