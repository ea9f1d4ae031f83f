"""How often the garbage collector looks at memory, once the product is open.

https://docs.python.org/3/library/gc.html
"""

from __future__ import annotations

import gc

# Objects made since the last collection before the next: the default of 700 walks the trees of a
# parsed Bundle over and over (measured: parsing takes up to three times as long).
COLLECT_AFTER = (20_000, 50, 100)


def settle() -> None:
    """What start-up made lives until the end: the collector need never look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
