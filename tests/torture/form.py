"""How much is tried: LONG=1 is all of it, which takes an hour where the short form takes minutes.
SEED=n: the same random choices again."""

import os
import random

LONG = os.environ.get("LONG") == "1"
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
