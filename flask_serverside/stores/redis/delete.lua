-- Remove a record.
-- KEYS[1] the record's key
-- Returns what stood there up to the end of the subject, nothing if there was none.
local standing = redis.pcall('GETRANGE', KEYS[1], 0, LONGEST_HEADER - 1)
if of_another_type(standing) then standing = '' end
if redis.call('DEL', KEYS[1]) == 0 then return false end
return standing
