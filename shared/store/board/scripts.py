"""Atomic scripts of board and budget. KEYS and ARGV are named in the first line of each; time is always Redis' own.

The last of KEYS is the clock, where the script needs the time.
"""

# The board's clock is that of Redis, but never goes back: where that does, by hours when it was ahead and is set right,
# the board's goes on from where it was. What was leased meanwhile is over when its seconds have passed, not hours
# later.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local clock = redis.call('HMGET', KEYS[#KEYS], 'last_ms', 'ahead_ms')
local ahead = tonumber(clock[2] or '0')
if clock[1] and now + ahead < tonumber(clock[1]) then ahead = tonumber(clock[1]) - now end
now = now + ahead
redis.call('HSET', KEYS[#KEYS], 'last_ms', string.format('%d', now), 'ahead_ms', string.format('%d', ahead))
"""

# KEYS open leased failed wanted clock · ARGV wanted_ms id…. Failed ids with their reasons, one after the other.
PUT = (
    _NOW
    + """
local failed = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  redis.call('ZADD', KEYS[4], now + ARGV[1], id)
  local reason = redis.call('HGET', KEYS[3], id)
  if reason then
    failed[#failed + 1] = id
    failed[#failed + 1] = reason
  elseif not redis.call('ZSCORE', KEYS[2], id) then
    redis.call('ZADD', KEYS[1], 'NX', now, id)
  end
end
return failed
"""
)

# KEYS open leased failed wanted tokens stats clock · ARGV max_items lease_ms token. Expiry in ms, then the ids given
# away. What nobody wants any more is taken off, what was leased too long is open again, before all others.
LEASE = (
    _NOW
    + """
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[5], id)
  if redis.call('ZSCORE', KEYS[4], id) then redis.call('ZADD', KEYS[1], 0, id) end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[4], id)
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[3], id)
end
local given = {string.format('%d', now + ARGV[2])}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZADD', KEYS[2], now + ARGV[2], id)
  redis.call('HSET', KEYS[5], id, ARGV[3])
  given[#given + 1] = id
end
redis.call('HSET', KEYS[6], 'last_ms', string.format('%d', now))
return given
"""
)

# KEYS open leased failed wanted tokens stats clock · ARGV id answered.
SETTLE = (
    _NOW
    + """
for i = 1, 5 do
  if i == 3 or i == 5 then redis.call('HDEL', KEYS[i], ARGV[1]) else redis.call('ZREM', KEYS[i], ARGV[1]) end
end
if ARGV[2] == '1' then
  redis.call('HINCRBY', KEYS[6], 'answered', 1)
  redis.call('HSET', KEYS[6], 'last_ms', string.format('%d', now))
end
"""
)

# KEYS leased failed tokens stats clock · ARGV id token reason. 0 when the lease is somebody else's or over.
FAIL = (
    _NOW
    + """
local expires = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not expires or tonumber(expires) <= now or redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[4], 'last_ms', string.format('%d', now))
return 1
"""
)

# KEYS open leased failed stats clock. open, leased, failed, answered, silent_ms (-1: the judge was never here).
COUNTS = (
    _NOW
    + """
local over = redis.call('ZCOUNT', KEYS[2], '-inf', now)
local last = redis.call('HGET', KEYS[4], 'last_ms')
return {
  redis.call('ZCARD', KEYS[1]) + over, redis.call('ZCARD', KEYS[2]) - over, redis.call('HLEN', KEYS[3]),
  tonumber(redis.call('HGET', KEYS[4], 'answered') or '0'), last and math.max(0, now - tonumber(last)) or -1,
}
"""
)

# KEYS bucket held clock · ARGV per_minute. Milliseconds to wait, 0 when the request is counted. The bucket is idle
# after it is full, and then forgotten.
TAKE = (
    _NOW
    + """
local held = redis.call('PTTL', KEYS[2])
if held > 0 then return held end
local per_ms = ARGV[1] / 60000
local capacity = math.max(1, per_ms * 1000)
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at_ms')
local tokens = capacity
if bucket[1] then tokens = math.min(capacity, bucket[1] + math.max(0, now - bucket[2]) * per_ms) end
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = math.ceil((1 - tokens) / per_ms) end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at_ms', string.format('%d', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(capacity / per_ms) + 60000)
return wait
"""
)

# KEYS held · ARGV ms.
HOLD = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
"""
