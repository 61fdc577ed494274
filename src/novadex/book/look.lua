-- Whether a published book is still there as it was left; its life is renewed then. KEYS: state, bids, asks, orders, top,
-- changes. ARGV: epoch, sequence, bids, asks, orders, life in ms.
local there = redis.call('HMGET', KEYS[1], 'epoch', 'sequence')
if there[1] ~= ARGV[1] or there[2] ~= ARGV[2] or redis.call('EXISTS', KEYS[5]) == 0 then
    return 0
end
for i = 2, 4 do
    if redis.call('HLEN', KEYS[i]) ~= tonumber(ARGV[i + 1]) then
        return 0
    end
end
for i = 1, 6 do
    redis.call('PEXPIRE', KEYS[i], ARGV[6])
end
return 1
