"""What a round in one process costs for each client, message, weight, value and local step.

``python -m benchmarks.constants`` prints processor seconds, which other processes on the machine do not
count into, and the constants that follow from their differences.
"""

import os
import tempfile
import time
from itertools import count
from pathlib import Path
from statistics import median

CLIENTS = 10


def main() -> None:
    """Measure federations that differ in one number, and print each with what the difference says."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from benchmarks.timing import text

    with tempfile.TemporaryDirectory() as name:
        numbers = count()

        def seconds(n: int, d: int, steps: int = 1, clients: int = CLIENTS) -> float:
            taken = per_client(Path(name) / str(next(numbers)), clients, n, d, steps)
            print(f"M = {clients}, n = {n}, d = {d}, K = {steps}: {text(taken)} for each client and round")
            return taken

        least = seconds(4, 100)
        many = seconds(4, 100, clients=2000)
        print(f"  a client: {text(least)}; with 200 times as many of them {text(many)}")
        wide = seconds(4, 1_000_000)
        print(f"  a weight: {1e9 * (wide - least) / 1e6:.2f} ns, with n = 4")
        large = seconds(64, 100_000) - seconds(4, 100_000)
        print(f"  a value of a client's rows: {1e9 * large / (60 * 100_000):.2f} ns")
        for n, d in ((16, 100), (64, 200), (256, 1000), (512, 2000), (1000, 200)):
            for steps in (400, 2000):
                taken = seconds(n, d, steps) - seconds(n, d)
                print(f"  a step, K = {steps}, n = {n}, d = {d}: {text(taken / (steps - 1))}")


def per_client(directory: Path, clients: int, n: int, d: int, steps: int) -> float:
    """Return the processor seconds of a round after the first, for each client."""
    from benchmarks.federations import in_process

    run = in_process(directory, clients, n, d, steps)
    run(1)
    samples = []
    for _ in range(5):
        began = time.process_time()
        run(3)
        three = time.process_time()
        run(1)
        samples.append(
            ((three - began) - (time.process_time() - three)) / 2
        )  # without the closing evaluation
    return median(samples) / clients


if __name__ == "__main__":
    main()
