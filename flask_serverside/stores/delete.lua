-- Remove a record.
-- KEYS[1] the record's key
-- Returns what stood there up to the end of the subject, nothing if there was none.
local standing = redis.pcall('GETRANGE', KEYS[1], 0, 52 + 4 * 255 - 1)
if redis.call('DEL', KEYS[1]) == 0 then return false end
return type(standing) == 'string' and standing or ''
