"""Studies that take minutes, each a command: ``python -m benchmarks.NAME --help``; nothing imports them."""
