"""How much the tests of this folder try: a little in the suite, all of it in `make faults`."""

import os

ALL = bool(os.environ.get("LOCALGD_FAULTS"))

SERVERS_KILLED = 50 if ALL else 2
INTERRUPTED = 20 if ALL else 1
INTERRUPTED_ANYWHERE = 2_000 if ALL else 50
CLIENTS_KILLED = 20 if ALL else 1
FUZZED = 10_000 if ALL else 100
SOAK_ROUNDS = int(os.environ.get("LOCALGD_SOAK_ROUNDS", 10_000))
