-- Store a record if the one that stands there is alive and has the version that was loaded.
-- KEYS[1] the record's key
-- KEYS[2] the index of the subject's sessions, if there is a subject and it is on this server
-- ARGV[1..3] the handle, when the session expires or 0 if it has ended, the time now
-- ARGV[4] time to live, milliseconds
-- ARGV[5] the new record
-- ARGV[6] the version that was loaded, as in the record: 8 bytes, big-endian
-- Returns 1 if stored, nothing if there is none, otherwise what stands there.
local header = beginning(KEYS[1], HEADER)
if string.len(header) < HEADER or field(header, VERSION) ~= ARGV[6] then
  return redis.call('GET', KEYS[1])
end
if number(header, EXPIRES) <= tonumber(ARGV[3]) then return false end
if ARGV[2] ~= '0' then
  note(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[4])
  return 1
end
-- The index forgets a session when it has ended, not before.
local done = redis.pcall('SET', KEYS[1], ARGV[5], 'PX', ARGV[4])
if done.err then
  if not string.find(done.err, 'OOM', 1, true) then return done end
  -- Who signs out of a full server has signed out. A script that has removed something may
  -- write, too.
  redis.call('DEL', KEYS[1])
  redis.pcall('SET', KEYS[1], ARGV[5], 'PX', ARGV[4])
end
note(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
return 1
