-- Remove records for good, but for tombstones and those of another subject. What stands there
-- and is no record is left alone.
-- KEYS the records' keys
-- ARGV[1] '1' if only those of the subject in ARGV[2] are meant, otherwise '0'
-- Returns for each key the subject of the record that was removed, '' if it had none, or
-- nothing if none was removed.
local removed = {}
for i, key in ipairs(KEYS) do
  removed[i] = false
  local header = redis.pcall('GETRANGE', key, 0, LONGEST_HEADER - 1)
  if not of_another_type(header) and string.len(header) >= HEADER
    and string.sub(header, 1, string.len(MAGIC)) == MAGIC and number(header, LIFETIME) > 0
  then
    local size = string.byte(header, HEADER - 1) * 256 + string.byte(header, HEADER)
    local subject = string.sub(header, HEADER + 1, HEADER + size)
    if ARGV[1] == '0' or subject == ARGV[2] then
      redis.call('DEL', key)
      removed[i] = subject
    end
  end
end
return removed
