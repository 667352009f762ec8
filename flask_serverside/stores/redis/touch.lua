-- Extend a record that is alive; if it was saved since it was loaded, leave it as it is.
-- KEYS[1] the record's key
-- KEYS[2] the index of the subject's sessions, if there is a subject and it is on this server
-- ARGV[1..3] the handle, when the session expires, the time now
-- ARGV[4] time to live, milliseconds
-- ARGV[5] the new times seen and expires, as in the record: 16 bytes
-- ARGV[6] the version that was loaded, as in the record: 8 bytes, big-endian
-- Returns 1 if it was extended, otherwise nothing.
local header = beginning(KEYS[1], HEADER)
if string.len(header) < HEADER or field(header, VERSION) ~= ARGV[6] then return false end
if number(header, EXPIRES) <= tonumber(ARGV[3]) then return false end
note(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
redis.call('SETRANGE', KEYS[1], SEEN, ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
