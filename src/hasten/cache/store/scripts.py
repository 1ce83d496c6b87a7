"""What the Redis server runs for :mod:`hasten.cache.store.redis`: each is one round trip.

Scripts that read return {answer, news}; news are the epochs after ``ARGV[1]``, as tag, epoch, tag, epoch, ...
"""

_NEWS = """
local function news() return redis.call('ZRANGE', KEYS[1], '('..ARGV[1], '+inf', 'BYSCORE', 'WITHSCORES') end
"""

#: Let a key live for at least so many milliseconds.
_KEEP = """
local function keep(key, ms)
  if redis.call('PTTL', key) < tonumber(ms) then redis.call('PEXPIRE', key, ms) end
end
"""

#: Forget what a member of a tenant's list, ``key:scope:canonical``, stands for; only its vector unless ``all``.
_FORGET = """
local function forget(list, member, prefix, all)
  local key, scope, canonical = string.match(member, '^(%x*):(%x*):(%x*)$')
  if scope ~= '' then redis.pcall('VREM', prefix..':v:'..scope, key) end
  redis.call('ZREM', list, member)
  if not all then return 0 end
  if scope ~= '' then redis.call('HDEL', prefix..':b:'..scope, key) end
  if canonical ~= '' and redis.call('GET', prefix..':c:'..canonical) == key then
    redis.call('DEL', prefix..':c:'..canonical)
  end
  return redis.call('DEL', prefix..':e:'..key)
end
"""

#: KEYS: epochs, entry. ARGV: seen.
GET = _NEWS + "return {redis.call('GET', KEYS[2]), news()}"

#: KEYS: epochs, canonical. ARGV: seen, start of an entry's name. Answers key and entry.
FIND = (
    _NEWS
    + """
local key = redis.call('GET', KEYS[2])
return {key and {key, redis.call('GET', ARGV[2]..key)}, news()}
"""
)

#: KEYS: epochs, vectors. ARGV: seen, start of an entry's name, vector, limit, effort. Answers {key, score, entry}s.
NEAR = (
    _NEWS
    + """
local found = redis.call('VSIM', KEYS[2], 'FP32', ARGV[3], 'WITHSCORES', 'COUNT', ARGV[4], 'EF', ARGV[5])
local answer = {}
for i = 1, #found, 2 do
  local entry = redis.call('GET', ARGV[2]..found[i])
  if entry then
    answer[#answer + 1] = {found[i], found[i + 1], entry}
  else
    redis.call('VREM', KEYS[2], found[i])
  end
end
return {answer, news()}
"""
)

#: KEYS: entry, list, canonical, vectors, bare; ARGV: prefix, entry, its life in ms, now, its end, its member, its key,
#: vector, text, quantization, how many expired ones to clear away, how long the list outlives the entry in ms. What
#: there is none of is ''. What needs vector sets comes last: without them all else is done.
PUT = (
    _KEEP
    + _FORGET
    + """
local prefix, life, key = ARGV[1], ARGV[3], ARGV[7]
redis.call('SET', KEYS[1], ARGV[2], 'PX', life)
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[6])
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', ARGV[4], 'BYSCORE', 'LIMIT', 0, ARGV[11])) do
  forget(KEYS[2], member, prefix, false)
end
keep(KEYS[2], life + ARGV[12])
if KEYS[3] ~= '' then redis.call('SET', KEYS[3], key, 'PX', life) end
if ARGV[8] ~= '' then
  redis.call('VADD', KEYS[4], 'FP32', ARGV[8], key, ARGV[10])
  redis.call('HDEL', KEYS[5], key)
elseif ARGV[9] ~= '' and not redis.call('VEMB', KEYS[4], key) then
  redis.call('HSETEX', KEYS[5], 'PX', life, 'FIELDS', 1, key, ARGV[9])
  keep(KEYS[5], life)
end
if redis.call('EXISTS', KEYS[4]) == 1 then keep(KEYS[4], life) end
"""
)

#: KEYS: entry, vectors, bare. ARGV: key, vector, quantization.
EMBED = (
    _KEEP
    + """
local life = redis.call('PTTL', KEYS[1])
if life > 0 then
  redis.call('VADD', KEYS[2], 'FP32', ARGV[2], ARGV[1], ARGV[3])
  keep(KEYS[2], life)
  redis.call('HDEL', KEYS[3], ARGV[1])
end
"""
)

#: KEYS: epochs. ARGV: the epoch proposed, for how long to keep them (ms), how many at most, the tag that older ones
#: are folded into, tags. Epochs only grow.
INVALIDATE = """
local epoch = tonumber(ARGV[1])
local top = redis.call('ZRANGE', KEYS[1], 0, 0, 'REV', 'WITHSCORES')[2]
if top and tonumber(top) >= epoch then epoch = tonumber(top) + 1 end
for i = 5, #ARGV do redis.call('ZADD', KEYS[1], epoch, ARGV[i]) end
local count = redis.call('ZCARD', KEYS[1])
if count > tonumber(ARGV[3]) then
  local at = count - math.floor(ARGV[3] / 2)
  local floor = redis.call('ZRANGE', KEYS[1], at, at, 'WITHSCORES')[2]
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', floor)
  redis.call('ZADD', KEYS[1], 'NX', floor, ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

#: KEYS: list. ARGV: prefix, members. Answers how many entries there were.
FORGET = (
    _FORGET
    + """
local count = 0
for i = 2, #ARGV do count = count + forget(KEYS[1], ARGV[i], ARGV[1], true) end
return count
"""
)
