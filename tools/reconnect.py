#!/usr/bin/env python3
"""How devices come back to a broker that was away: the publisher's waits (src/mqtt/publisher/mod.rs), simulated.

    tools/reconnect.py [DEVICES]     [100000]; figures are scaled to a million

0.5 s, doubled to 60 s, each shortened at random by up to a half. An attempt fails or succeeds at once: no TLS, no limit at the broker.
"""

import random
import sys
from collections import Counter

FIRST, LONGEST = 0.5, 60.0


def back(away: float) -> float:
    """Seconds after the broker's return until one device is back."""
    time, wait = 0.0, FIRST
    while time < away:
        time += wait * (1 - random.random() / 2)
        wait = min(2 * wait, LONGEST)
    return time - away


def main() -> None:
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    random.seed(7)
    print("away, s | median back | last | most in one second, of a million")
    for away in (10, 60, 600, 3600):
        times = sorted(back(away) for _ in range(devices))
        most = max(Counter(int(time) for time in times).values()) * 1_000_000 // devices
        print(f"{away} | {times[devices // 2]:.1f} | {times[-1]:.1f} | {most}")


if __name__ == "__main__":
    main()
