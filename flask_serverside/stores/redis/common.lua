-- What the scripts share: it is put before each of them, after the constants HEADER,
-- LONGEST_HEADER, VERSION, SEEN, EXPIRES, LIFETIME and so on: how many bytes a record's header
-- has, and at which of them each number begins, counted from 0.

-- The first bytes of a record.
local function beginning(key, length)
  return redis.call('GETRANGE', key, 0, length - 1)
end

-- Eight bytes of a header, as they are.
local function field(header, place)
  return string.sub(header, place + 1, place + 8)
end

-- A number of a header: 8 bytes, big-endian.
local function number(header, place)
  local result = 0
  for i = place + 1, place + 8 do result = result * 256 + string.byte(header, i) end
  return result
end

-- Whether an answer of redis.pcall says that something else than we use stands under a key.
-- Any other error, such as a command that we may not use, is raised: it says nothing of it.
local function of_another_type(answer)
  if type(answer) ~= 'table' or not answer.err then return false end
  local said = tostring(answer.err)
  if not string.find(said, 'WRONGTYPE', 1, true) then error(said, 0) end
  return true
end

-- Milliseconds since the epoch, by this server's clock.
local function servers_time()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Note in the index of a subject's sessions, a sorted set of handles, until when one lives.
-- Never earlier than it says already: an entry too many does no harm. When one is added or
-- lives longer, those that are long past are removed, and with the last one the index itself.
-- "Past" by the client's clock and by the server's: either may be ahead. "Long": those of other
-- clients may be, too.
-- expires, now: milliseconds since the epoch; expires 0: the session has ended.
local LONG = 3600000
local function note(index, handle, expires, now)
  if not index then return end
  expires, now = tonumber(expires), tonumber(now)
  local noted = redis.pcall('ZSCORE', index, handle)
  if of_another_type(noted) then
    redis.call('DEL', index)
    noted = false
  end
  if expires == 0 then
    redis.call('ZREM', index, handle)
    return
  end
  if noted and tonumber(noted) >= expires then return end
  redis.call('ZADD', index, expires, handle)
  now = math.min(now, servers_time())
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now - LONG)
  local left = expires - now + LONG
  if redis.call('PTTL', index) < left then redis.call('PEXPIRE', index, left) end
end

