-- The difference of one batch, all of it or nothing: only onto the epoch and the sequence that it follows, and only where
-- nothing was lost since. KEYS: state, bids, asks, orders, top, changes.
-- ARGV: 1 epoch; 2 sequence, 3 bids, 4 asks and 5 orders as they must be; 6 sequence, 7 checksum, 8 bids, 9 asks and
-- 10 orders after it; 11 top; 12 difference; 13 differences kept; 14 life in ms; 15 to 17 how many pairs follow for bids,
-- asks and orders, then they: (price, lots), (id, order), where 0 and the empty text take away.
-- Returns 1, or 0 where the book must be published anew.
local there = redis.call('HMGET', KEYS[1], 'epoch', 'sequence')
if there[1] ~= ARGV[1] or there[2] ~= ARGV[2] then
    return 0
end
for i = 2, 4 do
    if redis.call('HLEN', KEYS[i]) ~= tonumber(ARGV[i + 1]) then
        return 0
    end
end
local at = 18
for i = 2, 4 do
    local put, gone = {}, {}
    for _ = 1, tonumber(ARGV[i + 13]) do
        local field, value = ARGV[at], ARGV[at + 1]
        if value == '0' or value == '' then
            gone[#gone + 1] = field
        else
            put[#put + 1], put[#put + 2] = field, value
        end
        at = at + 2
    end
    -- Many at once, and no more than fit on the stack.
    for first = 1, #put, 1000 do
        redis.call('HSET', KEYS[i], unpack(put, first, math.min(first + 999, #put)))
    end
    for first = 1, #gone, 1000 do
        redis.call('HDEL', KEYS[i], unpack(gone, first, math.min(first + 999, #gone)))
    end
    if ARGV[i + 1] == '0' then
        redis.call('PEXPIRE', KEYS[i], ARGV[14])
    end
end
redis.call('HSET', KEYS[1], 'sequence', ARGV[6], 'checksum', ARGV[7], 'bids', ARGV[8], 'asks', ARGV[9], 'orders', ARGV[10])
redis.call('SET', KEYS[5], ARGV[11], 'PX', ARGV[14])
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[13], '*', 'd', ARGV[12])
return 1
