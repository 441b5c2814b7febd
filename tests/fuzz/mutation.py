"""Seeded mutation of bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

MAX_BYTES = 1 << 20
"""Of a mutant; duplicating chunks never grows it beyond."""

_NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    1 << 31,
    (1 << 31) - 1,
    (1 << 32) - 1,
    (1 << 63) - 1,
)
_TEXTS = (
    b"0", b"-1", b"65536", b"4294967295", b"99999999999999999999", b"1e999", b"-1e-999", b"0.5", b"NaN", b"null",
    b"true", b'"x"', b"[]", b"{}", b'""', b"'", b"\0", b"\n", b"\xff\xfe", b"[" * 2000, b"\x1b[2J", b"../../x", b"/x",
    b"pipe:touch x", b"-0000000001\0", b"77777777777\0", b"\x80" + b"\xff" * 11,
)  # fmt: skip
_TOKEN = re.compile(rb'"[^"\n]*"|[\w.+-]+|[\[\]{}:,]')

Operation = Callable[[bytearray, Random, Sequence[bytes]], None]


def mutate(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Return ``content`` after one to four mutations; pieces of ``others`` may be spliced in."""
    mutant = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        random.choice(OPERATIONS)(mutant, random, others)
    return bytes(mutant[:MAX_BYTES])


def _flip_bits(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    for _bit in range(random.choice((1, 1, 2, 8, 64)) if mutant else 0):
        mutant[random.randrange(len(mutant))] ^= 1 << random.randrange(8)


def _flip_in_header(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    """Most fields lie near the start."""
    for _byte in range(random.choice((1, 2, 4)) if mutant else 0):
        mutant[random.randrange(min(64, len(mutant)))] = random.randrange(256)


def _truncate(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    del mutant[random.randint(0, len(mutant)) :]


def _zero_tail(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    """As a file system leaves a file whose blocks were not written before the power went."""
    start = random.randint(0, len(mutant))
    mutant[start:] = bytes(len(mutant) - start)


def _set_extreme(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    """Overwrite a field of 1, 2, 4 or 8 bytes by a number that breaks a sum, a product or a sign."""
    width = random.choice((1, 2, 4, 8))
    number = random.choice(_NUMBERS) % (1 << 8 * width)
    start = random.randint(0, max(0, min(len(mutant), random.choice((64, 1024, len(mutant)))) - width))
    mutant[start : start + width] = number.to_bytes(width, random.choice(("big", "little")))


def _set_text(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    """Overwrite bytes by a number or name as text, in place."""
    text = random.choice(_TEXTS)
    start = random.randint(0, len(mutant))
    mutant[start : start + len(text)] = text


def _set_token(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    """Put another word, number or bracket in the place of one."""
    tokens = list(_TOKEN.finditer(bytes(mutant[: 1 << 16])))
    if tokens:
        token = random.choice(tokens)
        replacement = random.choice((random.choice(_TEXTS), random.choice(tokens).group()))
        mutant[token.start() : token.end()] = replacement


def _piece(source: bytes | bytearray, random: Random) -> slice:
    """Return a random piece, often one that starts and ends where blocks of 4 or 512 bytes do."""
    block = random.choice((1, 1, 4, 512))
    start, end = sorted(random.randint(0, len(source) // block) * block for _ in range(2))
    return slice(start, end)


def _duplicate(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    piece = _piece(mutant, random)
    if len(mutant) + (piece.stop - piece.start) <= MAX_BYTES:
        mutant[piece.stop : piece.stop] = mutant[piece]


def _remove(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    del mutant[_piece(mutant, random)]


def _swap(mutant: bytearray, random: Random, _: Sequence[bytes]) -> None:
    """Swap two neighbouring pieces."""
    piece = _piece(mutant, random)
    middle = random.randint(piece.start, piece.stop)
    mutant[piece] = mutant[middle : piece.stop] + mutant[piece.start : middle]


def _splice(mutant: bytearray, random: Random, others: Sequence[bytes]) -> None:
    """Put a piece of another file in the place of a piece."""
    other = random.choice(others) if others else bytes(mutant)
    mutant[_piece(mutant, random)] = other[_piece(other, random)]


OPERATIONS: tuple[Operation, ...] = (
    _flip_bits, _flip_in_header, _truncate, _zero_tail, _set_extreme, _set_extreme, _set_text, _set_token, _duplicate,
    _remove, _swap, _splice,
)  # fmt: skip
