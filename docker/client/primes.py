"""Work for the example; a host that does not have this module gets it from the client."""

import platform


def count_primes(start: int, stop: int) -> tuple[str, int]:
    """Count the primes in a range; also says which machine did it."""
    found = sum(
        all(n % divisor for divisor in range(2, int(n**0.5) + 1))
        for n in range(max(start, 2), stop)
    )
    return platform.node(), found
