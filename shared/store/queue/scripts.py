"""The queue's atomic scripts. KEYS and ARGV are named in the first line of each; time is always Redis' own."""

# KEYS stream. Everything in the stream, from its first entry, is for the group, also what came before it.
GROUP = """
return redis.pcall('XGROUP', 'CREATE', KEYS[1], 'workers', '0', 'MKSTREAM') and 1
"""

# KEYS items stream · ARGV id payload. 0 while the item is outstanding.
SUBMIT = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.pcall('XGROUP', 'CREATE', KEYS[2], 'workers', '0', 'MKSTREAM')
redis.call('XADD', KEYS[2], '*', 'id', ARGV[1], 'item', ARGV[2])
return 1
"""

# KEYS stream · ARGV entry consumer. 0 when the entry is somebody else's; JUSTID keeps the delivery count.
RENEW = """
local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[1], ARGV[1], 1)
if #held == 0 or held[1][2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], 'workers', ARGV[2], 0, ARGV[1], 'JUSTID')
return 1
"""

# KEYS stream items history events · ARGV entry consumer id event.
COMPLETE = """
local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[1], ARGV[1], 1)
if #held == 0 or held[1][2] ~= ARGV[2] then return 0 end
redis.call('XACK', KEYS[1], 'workers', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[3])
redis.call('HDEL', KEYS[3], ARGV[3])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'event', ARGV[4])
return 1
"""

# KEYS stream delayed history · ARGV entry consumer id history delay_ms keep.
# keep = 1 records the history only, and the entry stays leased.
HAND_BACK = """
local held = redis.call('XPENDING', KEYS[1], 'workers', ARGV[1], ARGV[1], 1)
if #held == 0 or held[1][2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
if ARGV[6] == '1' then return 1 end
redis.call('XACK', KEYS[1], 'workers', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
local now = redis.call('TIME')
redis.call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[5], ARGV[3])
return 1
"""

# KEYS delayed stream items. Moves what is due back into the stream; how many.
PROMOTE = """
local now = redis.call('TIME')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] * 1000 + math.floor(now[2] / 1000), 'LIMIT', 0, 100)
for _, id in ipairs(due) do
  local payload = redis.call('HGET', KEYS[3], id)
  if payload then redis.call('XADD', KEYS[2], '*', 'id', id, 'item', payload) end
  redis.call('ZREM', KEYS[1], id)
end
return #due
"""

# KEYS items stream delayed. All outstanding ids. An item stands in the stream or among the delayed; one that stands in
# neither (a key was evicted or deleted) is forgotten, so that it can be asked for again.
OUTSTANDING = """
local ids = redis.call('HKEYS', KEYS[1])
if #ids <= redis.call('XLEN', KEYS[2]) + redis.call('ZCARD', KEYS[3]) then return ids end
local found = {}
local kept = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do found[entry[2][2]] = true end
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do found[id] = true end
for _, id in ipairs(ids) do
  if found[id] then kept[#kept + 1] = id else redis.call('HDEL', KEYS[1], id) end
end
return kept
"""

# KEYS stream delayed items history · ARGV prefix. Forgets what nobody works on; how many.
DROP = """
local dropped = 0
local held = {}
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], 'workers', '-', '+', 100000)) do held[entry[1]] = true end
local function forget(id)
  redis.call('HDEL', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
  dropped = dropped + 1
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  local id = entry[2][2]
  if not held[entry[1]] and string.sub(id, 1, #ARGV[1]) == ARGV[1] then
    redis.call('XDEL', KEYS[1], entry[1])
    forget(id)
  end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if string.sub(id, 1, #ARGV[1]) == ARGV[1] then
    redis.call('ZREM', KEYS[2], id)
    forget(id)
  end
end
return dropped
"""
