"""One pool over every kind of host of the cluster: counts primes, and says who counted."""

from collections import Counter

from primes import count_primes

from pool_client import Pool

HOSTS = ["ssh://ssh1/2", "ssh://ssh2/2", "ssh://bare/2", "lan1/2", "lan2/2"]
STEP = 1000

# All of these hosts are one machine, which may be busy.
with Pool(0, hosts=HOSTS, connect_timeout=120) as pool:
    print(pool)
    starts = range(0, 200_000, STEP)
    by_host: Counter[str] = Counter()
    total = 0
    for host, found in pool.map(count_primes, starts, range(STEP, 200_001, STEP)):
        by_host[host] += 1
        total += found
    print(f"{total} primes below {starts.stop}")
    for host, ranges in by_host.most_common():
        print(f"  {host} counted {ranges} of {len(starts)} ranges")
