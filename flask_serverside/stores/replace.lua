-- Store a record if the one that stands there is alive and has the version that was loaded.
-- KEYS[1] the record's key
-- ARGV[1] the version that was loaded, as in the record: 8 bytes, big-endian
-- ARGV[2] the time now, the same way
-- ARGV[3] time to live, milliseconds
-- ARGV[4] the new record
-- Returns 1 if stored, nothing if there is none, otherwise what stands there.
local function number(bytes)
  local result = 0
  for i = 1, 8 do result = result * 256 + string.byte(bytes, i) end
  return result
end

local standing = redis.call('GET', KEYS[1])
if not standing then return false end
if string.len(standing) < 52 or string.sub(standing, 3, 10) ~= ARGV[1] then return standing end
if number(string.sub(standing, 19, 26)) <= number(ARGV[2]) then return false end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[3])
return 1
