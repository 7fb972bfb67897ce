"""Packs commands for Redis, numbers among their words as well.

hiredis asks Python for the text of a number, and takes it for granted. But a signal handler may run there
and raise (Ctrl-C in ``bridge jobs``): hiredis 3.5 and earlier then end the process with a segmentation
fault. Text and bytes it reads by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hiredis

Words = tuple[str | bytes | int | float, ...]
"""One command."""

_TEXTS = frozenset([str, bytes])
_of_text: Callable[[tuple[str | bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


def packed(words: Sequence[str | bytes | int | float]) -> bytes:
    """A command as it is sent."""
    if _TEXTS.issuperset(map(type, words)):
        return _of_text(tuple(words))  # type: ignore[arg-type]
    return _of_text(
        tuple([word if type(word) is str or isinstance(word, bytes) else str(word) for word in words])
    )


def all_packed(commands: Sequence[Words]) -> list[bytes]:
    """Each command as it is sent."""
    return [packed(words) for words in commands]


class CommandPacker:
    """redis-py's way to pack commands, for all connections of a client."""

    def pack(self, *words: str | bytes | int | float) -> list[bytes]:
        """The pieces to be sent; the command's name may be several words (``CLIENT SETNAME``)."""
        name, *rest = words
        names = name.split() if isinstance(name, str | bytes) else [name]
        return [packed([*names, *map(_plain, rest)])]


def _plain(word: object) -> str | bytes | int | float:
    return bytes(word) if isinstance(word, bytearray | memoryview) else word  # type: ignore[return-value]
