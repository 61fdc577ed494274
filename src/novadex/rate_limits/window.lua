-- A sliding window over two counters: requests of this window, and those of the one before by the share of it that still
-- counts. KEYS[1] one caller under one limit; ARGV[1] requests allowed, ARGV[2] the window in milliseconds.
-- Returns whether it is let in, how many are left, and the milliseconds until one more would be.
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local number, passed = math.floor(now / window), now % window
local kept = redis.call('HMGET', KEYS[1], 'number', 'count', 'before')
local count, before = 0, 0
if tonumber(kept[1]) == number then
    count, before = tonumber(kept[2]), tonumber(kept[3])
elseif tonumber(kept[1]) == number - 1 then
    before = tonumber(kept[2])
end
local weight = before * (window - passed) / window + count
local wait = 0
if weight + 1 <= limit then
    count, weight = count + 1, weight + 1
    redis.call('HSET', KEYS[1], 'number', number, 'count', count, 'before', before)
    redis.call('PEXPIRE', KEYS[1], 2 * window)
    if weight + 1 <= limit then
        return {1, math.floor(limit - weight), 0}
    end
    wait = -1
end
-- When is before * (window - t) / window + count <= limit - 1, in this window, else in the next?
local at
if count <= limit - 1 then
    at = window * (1 - (limit - 1 - count) / before) - passed
else
    at = window - passed + window * (1 - (limit - 1) / count)
end
return {wait == -1 and 1 or 0, 0, math.max(1, math.ceil(at))}
