-- Change the index alone, where it is on another server than the record.
-- KEYS[1] the index of the subject's sessions
-- ARGV[1..3] the handle, when the session expires or 0, the time now
note(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
