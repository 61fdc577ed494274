-- Keep a lease. KEYS: the lease, which ends soon, and its witness, which does not: it says whose the lease is even where
-- that had no time to renew it. ARGV: token, what the lease says from now on (the token, and why it is not to be believed,
-- if so), life of the lease and of the witness in ms, and 1 where it is taken from whoever has it.
-- Returns 1; 0 where it is another's, or the witness is gone: then something was lost.
if ARGV[5] ~= '1' and redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
return 1
