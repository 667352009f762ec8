-- Store a new record of a subject, unless there is one.
-- KEYS[1] the record's key
-- KEYS[2] the index of the subject's sessions, if it is on this server
-- ARGV[1..3] the handle, when the session expires, the time now
-- ARGV[4] time to live, milliseconds
-- ARGV[5] the record
-- Returns 1 if stored, otherwise nothing.
note(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[4], 'NX') then return 1 end
return false
