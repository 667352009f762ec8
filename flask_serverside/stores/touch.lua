-- Extend a record that is alive; if it was saved since it was loaded, leave it as it is.
-- KEYS[1] the record's key
-- ARGV[1] the version that was loaded, as in the record: 8 bytes, big-endian
-- ARGV[2] the new times seen and expires, as in the record: 16 bytes
-- ARGV[3] time to live, milliseconds
-- Returns 1 if it was extended, otherwise 0.
local function number(bytes)
  local result = 0
  for i = 1, 8 do result = result * 256 + string.byte(bytes, i) end
  return result
end

local header = redis.call('GETRANGE', KEYS[1], 0, 25)
if string.len(header) < 26 then return 0 end
if number(string.sub(header, 19, 26)) <= number(string.sub(ARGV[2], 1, 8)) then return 0 end
if string.sub(header, 3, 10) ~= ARGV[1] then return 0 end
redis.call('SETRANGE', KEYS[1], 10, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
