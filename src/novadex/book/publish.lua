-- The difference of one batch, all of it or nothing: only onto the epoch and the sequence that it follows, and only where
-- nothing was lost since. KEYS: state, bids, asks, orders, top, changes.
-- ARGV: 1 epoch; 2 sequence, 3 bids, 4 asks and 5 orders as they must be; 6 sequence, 7 checksum, 8 bids, 9 asks and
-- 10 orders after it; 11 top; 12 difference; 13 differences kept; 14 life in ms; 15 MessagePack of three pairs of lists,
-- for bids, asks and orders: what is put there, as field and value in turn, and the fields that go.
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
-- Many fields at once, and no more than fit on the stack.
local function call(command, key, list)
    for first = 1, #list, 2000 do
        redis.call(command, key, unpack(list, first, math.min(first + 1999, #list)))
    end
end
local changes = cmsgpack.unpack(ARGV[15])
for i = 2, 4 do
    call('HSET', KEYS[i], changes[i - 1][1])
    call('HDEL', KEYS[i], changes[i - 1][2])
    if ARGV[i + 1] == '0' then
        redis.call('PEXPIRE', KEYS[i], ARGV[14])
    end
end
redis.call('HSET', KEYS[1], 'sequence', ARGV[6], 'checksum', ARGV[7], 'bids', ARGV[8], 'asks', ARGV[9], 'orders', ARGV[10])
redis.call('SET', KEYS[5], ARGV[11], 'PX', ARGV[14])
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[13], '*', 'd', ARGV[12])
return 1
