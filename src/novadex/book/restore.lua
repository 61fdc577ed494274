-- A whole book in the place of whatever was there. KEYS state, bids, asks, orders, top, changes, then bids, asks and orders
-- as they were written beside. ARGV: top, a difference that says that another epoch has begun, life in ms, differences
-- kept, then the fields and values of the state.
for i = 2, 4 do
    if redis.call('EXISTS', KEYS[i + 5]) == 1 then
        redis.call('RENAME', KEYS[i + 5], KEYS[i])
        redis.call('PEXPIRE', KEYS[i], ARGV[3])
    else
        redis.call('DEL', KEYS[i])
    end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[3])
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[4], '*', 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[6], ARGV[3])
return 1
