"""What a process remembers has an end, in bytes: who calls often, with long names or with large tokens, fills no memory with it.

Pure; bytes are estimates, made once for each entry and held by a test to what the interpreter takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_STRING: Final = 50
_NUMBER: Final = 32
_COLLECTION: Final = 64
_PLACE: Final = 16
"""What an item takes in its collection, beside itself; a collection has free places too."""


class Bounded(Generic[Key, Value]):
    """A map of at most `limit` bytes; what was put or used the longest ago is dropped first."""

    def __init__(self, limit: int, weigh: Callable[[Key, Value], int]) -> None:
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._limit = limit
        self._weigh = weigh
        self.weight = 0
        """Bytes of all entries."""

    def get(self, key: Key) -> Value | None:
        """Look at an entry."""
        entry = self._entries.get(key)
        return entry[0] if entry is not None else None

    def used(self, key: Key) -> None:
        """Note that an entry which is there was used, so that others are dropped before it."""
        self._entries.move_to_end(key)

    def put(self, key: Key, value: Value) -> None:
        """Put an entry in the place of the one that may be there; one that is heavier than all may be is not taken."""
        self.drop(key)
        weight = self._weigh(key, value)
        if weight > self._limit:
            return
        self._entries[key] = (value, weight)
        self.weight += weight
        while self.weight > self._limit:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.weight -= dropped

    def drop(self, key: Key) -> None:
        """Drop an entry, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.weight -= entry[1]

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._entries)


def bytes_of(value: object) -> int:
    """Estimate the memory that a JSON value takes, or a collection of strings."""
    if isinstance(value, str | bytes):
        return _STRING + len(value)
    if isinstance(value, Mapping):
        return _COLLECTION + sum(2 * _PLACE + bytes_of(name) + bytes_of(item) for name, item in value.items())
    if isinstance(value, list | tuple | frozenset):
        return _COLLECTION + sum(_PLACE + bytes_of(item) for item in value)
    return _NUMBER
