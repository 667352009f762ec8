-- Extend a record that is alive; if it was saved since it was loaded, leave it as it is.
-- KEYS[1] the record's key
-- KEYS[2] the index of the subject's sessions, if there is a subject and it is on this server
-- ARGV[1..3] the handle, when the session expires, the time now
-- ARGV[4] time to live, milliseconds
-- ARGV[5] the new times seen and expires, as in the record: 16 bytes
-- ARGV[6] the version that was loaded, as in the record: 8 bytes, big-endian
-- Returns 1 if it was extended, otherwise nothing.
local header = redis.call('GETRANGE', KEYS[1], 0, 25)
if string.len(header) < 26 or string.sub(header, 3, 10) ~= ARGV[6] then return false end
if number(string.sub(header, 19, 26)) <= tonumber(ARGV[3]) then return false end
note(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
redis.call('SETRANGE', KEYS[1], 10, ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
