-- A whole book at one moment. KEYS: state, bids, asks, orders, changes. ARGV[1]: 1 with levels, ARGV[2]: 1 with orders.
-- Returns the state, the sides, the orders, and the id of the last difference.
local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)
return {
    redis.call('HGETALL', KEYS[1]),
    ARGV[1] == '1' and redis.call('HGETALL', KEYS[2]) or {},
    ARGV[1] == '1' and redis.call('HGETALL', KEYS[3]) or {},
    ARGV[2] == '1' and redis.call('HGETALL', KEYS[4]) or {},
    last[1] and last[1][1] or '0-0',
}
