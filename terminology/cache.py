"""A bounded memory of what was computed last, safe for several threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values of the `most` keys that were asked for last, together no heavier than
    `heaviest`."""

    def __init__(self, most: int, heaviest: int | None = None) -> None:
        self._most, self._heaviest = most, heaviest
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._weights: dict[K, int] = {}
        self._weight = 0
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], V], weight: int = 0) -> V:
        """The value of a key; made, outside the lock, when it is not there. `weight`: of the
        value; one that is heavier than all may be together is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        if self._heaviest is not None and weight > self._heaviest:
            return value
        with self._lock:
            self._weight += weight - self._weights.get(key, 0)
            self._weights[key] = weight
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self._most or self._is_heavy():
                gone, _ = self._kept.popitem(last=False)
                self._weight -= self._weights.pop(gone)
        return value

    def _is_heavy(self) -> bool:
        return self._heaviest is not None and self._weight > self._heaviest
