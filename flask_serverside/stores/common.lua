-- What the scripts share: it is put before each of them.

-- A number as it stands in the record: 8 bytes, big-endian.
local function number(bytes)
  local result = 0
  for i = 1, 8 do result = result * 256 + string.byte(bytes, i) end
  return result
end

-- Note in the index of a subject's sessions, a sorted set of handles, until when one lives.
-- Never earlier than it says already: an entry too many does no harm. When one is added or
-- lives longer, those that are long past are removed, and with the last one the index itself.
-- "Long": some machine's clock may be ahead.
-- expires, now: milliseconds since the epoch; expires 0: the session has ended.
local LONG = 3600000
local function note(index, handle, expires, now)
  if not index then return end
  expires, now = tonumber(expires), tonumber(now)
  local noted = redis.pcall('ZSCORE', index, handle)
  if type(noted) == 'table' then -- something else stands there
    redis.call('DEL', index)
    noted = false
  end
  if expires == 0 then
    redis.call('ZREM', index, handle)
    return
  end
  if noted and tonumber(noted) >= expires then return end
  redis.call('ZADD', index, expires, handle)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now - LONG)
  local left = expires - now + LONG
  if redis.call('PTTL', index) < left then redis.call('PEXPIRE', index, left) end
end
