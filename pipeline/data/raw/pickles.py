"""Pickles of plain data and byte arrays, read by a machine of our own that knows nothing else.

It has the opcodes of dicts, lists, tuples, strings, numbers and arrays in protocols 2 to 4. It imports nothing, calls
nothing and builds no NumPy object; no opcode takes more memory than it has bytes, but for a small constant.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import UserError, one_line

MAX_OPCODES = 4_000_000
"""CIFAR-100's train file, the longest official one, has some 300,000."""


_SHORT = 1 << 16  # bytes: longer ones stay a view of the file


class _RefusedError(Exception):
    """What no pickle of plain data holds; the message says what."""


@dataclass
class PickledArray:
    """A NumPy array as its pickle describes it: none of it is checked."""

    shape: Any = None
    dtype: Any = None
    fortran: Any = None
    data: Any = None


@dataclass(frozen=True)
class _Dtype:
    code: str


_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE = "_reconstruct", "ndarray", "dtype", "encode"


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    ("_codecs", "encode"): _ENCODE,  # Python 3 writes bytes so in protocol 2
}


@dataclass(frozen=True)
class _Global:
    """The name of something that a pickle may mention; it is never imported."""

    name: str


_MARK = object()


def load_pickle(data: bytes, name: str) -> dict[str, Any]:
    """Return a pickled dict of plain data and `PickledArray`s, its keys as text (CIFAR's and Imagenet64's files).

    Raises:
        UserError: not such a pickle.
    """
    try:
        content = _Machine(data).run()
    except (_RefusedError, struct.error, LookupError, ValueError, TypeError) as error:
        raise UserError(
            f"{name}: not a pickle of arrays ({one_line(error)}); download it again from its official page"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{name}: holds a {type(content).__name__}, expected a dict of arrays")
    return {as_text(key): value for key, value in content.items()}


def as_text(value: Any) -> str:
    """Return a pickled string as text: Python 2 wrote bytes.

    Raises:
        TypeError: no string.
    """
    if type(value) is bytes:
        return value.decode(errors="replace")
    if type(value) is not str:
        raise TypeError(f"a {type(value).__name__} where a text is expected")
    return value


def numbers(value: Any, name: str) -> list[int]:
    """Return a pickled list of integers.

    Raises:
        UserError: anything else.
    """
    if type(value) is not list or any(type(item) is not int for item in value):
        raise UserError(f"{name}: no list of numbers where labels are expected; download it again")
    return value


class _Machine:
    """Runs the opcodes of ``data`` on a stack, as the `pickletools` module documents them."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._encoded = 0

    def run(self) -> Any:
        """Return the object that the pickle describes."""
        for _ in range(MAX_OPCODES):
            opcode = self._take(1)[0]
            if opcode == ord("."):
                return self._stack.pop()
            if opcode in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode]())
            elif opcode in _VALUES:
                self._stack.append(_VALUES[opcode](self))
            elif opcode in _ACTIONS:
                _ACTIONS[opcode](self)
            else:
                raise _RefusedError(f"opcode {opcode:#x} is not plain data")
        raise _RefusedError(f"over {MAX_OPCODES} opcodes")

    def _take(self, count: int) -> memoryview:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise _RefusedError("cut short")
        self._at += count
        return taken

    def number(self, layout: str) -> Any:
        """Return the next number, stored as the `struct` ``layout``."""
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def block(self, layout: str) -> bytes | memoryview:
        """Return the next bytes, whose length is stored before them as ``layout``."""
        taken = self._take(self.number(layout))
        return bytes(taken) if len(taken) <= _SHORT else taken

    def text(self, layout: str) -> str:
        """Return the next text, whose length in bytes is stored before it as ``layout``."""
        return str(self._take(self.number(layout)), "utf-8", "surrogatepass")

    def integer(self) -> int:
        """Return the next integer of at most 8 bytes."""
        length = self.number("<B")
        if length > 8:
            raise _RefusedError(f"an integer of {length} bytes")
        return int.from_bytes(self._take(length), "little", signed=True)

    def line(self) -> str:
        """Return the text up to the next end of line, of at most 64 bytes."""
        line, end, _ = bytes(self._data[self._at : self._at + 64]).partition(b"\n")
        self._at += len(line) + len(end)
        return line.decode()

    def recall(self, index: int) -> Any:
        """Return what was put aside under ``index``."""
        return self._memo[index]

    def remember(self, index: int | None = None) -> None:
        """Put the top of the stack aside under ``index``, or the next free one."""
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def mark(self) -> None:
        """Mark the top of the stack."""
        self._stack.append(_MARK)

    def skip(self, count: int) -> None:
        """Pass over a header that bounds nothing here."""
        self._take(count)

    def pop(self, count: int | None = None) -> list[Any]:
        """Take ``count`` objects from the stack, or all after the last mark."""
        if count is None:
            start = next(i for i in range(len(self._stack) - 1, -2, -1) if i < 0 or self._stack[i] is _MARK)
            if start < 0:
                raise _RefusedError("no mark on the stack")
            items = self._stack[start + 1 :]
            del self._stack[start:]
        else:
            items = self._stack[-count:]
            del self._stack[-count:]
        if (count is not None and len(items) != count) or any(item is _MARK for item in items):
            raise _RefusedError("the stack is not what its opcodes need")
        return items

    def pack(self, count: int | None = None) -> None:
        """Replace objects on the stack by a tuple of them."""
        self._stack.append(tuple(self.pop(count)))

    def extend(self, count: int | None = None) -> None:
        """Append objects to the list below them."""
        items = self.pop(count)
        if type(self._stack[-1]) is not list:
            raise _RefusedError("it appends to what is no list")
        self._stack[-1].extend(items)

    def update(self, count: int | None = None) -> None:
        """Put pairs of key and value into the dict below them."""
        items = self.pop(count)
        keys = items[::2]
        if type(self._stack[-1]) is not dict or not all(type(key) in (str, bytes) for key in keys):
            raise _RefusedError("a dict whose keys are not texts")
        self._stack[-1].update(zip(keys, items[1::2], strict=True))

    def mention(self, module: Any, name: Any) -> None:
        """Push the stand-in of what ``name`` of ``module`` is."""
        if type(module) is not str or type(name) is not str:
            raise _RefusedError("it asks for a module by no name")
        if (module, name) not in _GLOBALS:
            raise _RefusedError(f"it asks for {module[:64]}.{name[:64]}, which is not data")
        self._stack.append(_Global(_GLOBALS[module, name]))

    def reduce(self) -> None:
        """Push what a call describes: an array, a dtype or bytes."""
        function, arguments = self.pop(2)
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise _RefusedError("it calls what is no function of arrays")
        if function.name == _RECONSTRUCT:
            self._stack.append(PickledArray())
        elif function.name == _DTYPE:
            self._stack.append(_Dtype(as_text(arguments[0])))
        elif function.name == _ENCODE and type(arguments[0]) is str and arguments[1:] == ("latin1",):
            self._encoded += len(arguments[0])
            if self._encoded > len(self._data):
                raise _RefusedError("it repeats its bytes")
            self._stack.append(arguments[0].encode("latin1"))
        else:
            raise _RefusedError(f"it calls {function.name}")

    def build(self) -> None:
        """Give the array below its state; a dtype's adds nothing to its name."""
        target, state = self.pop(2)
        if isinstance(target, PickledArray) and isinstance(state, tuple) and len(state) == 5:
            _, target.shape, dtype, target.fortran, target.data = state
            target.dtype = dtype.code if isinstance(dtype, _Dtype) else None
        elif not isinstance(target, _Dtype):
            raise _RefusedError("it builds what is no array")
        self._stack.append(target)


_CONSTANTS: dict[int, Callable[[], Any]] = {
    ord("N"): lambda: None,
    0x88: lambda: True,
    0x89: lambda: False,
    ord("}"): dict,
    ord("]"): list,
    ord(")"): tuple,
}
"""Opcodes that push the same every time."""


_VALUES: dict[int, Callable[[_Machine], Any]] = {
    ord("K"): lambda m: m.number("<B"),
    ord("M"): lambda m: m.number("<H"),
    ord("J"): lambda m: m.number("<i"),
    ord("G"): lambda m: m.number(">d"),
    0x8A: lambda m: m.integer(),
    ord("U"): lambda m: m.block("<B"),
    ord("C"): lambda m: m.block("<B"),
    ord("T"): lambda m: m.block("<I"),
    ord("B"): lambda m: m.block("<I"),
    0x8E: lambda m: m.block("<Q"),
    ord("X"): lambda m: m.text("<I"),
    0x8C: lambda m: m.text("<B"),
    ord("h"): lambda m: m.recall(m.number("<B")),
    ord("j"): lambda m: m.recall(m.number("<I")),
}
"""Opcodes that push a value."""


_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: lambda m: m.skip(1),  # protocol
    0x95: lambda m: m.skip(8),  # frame
    ord("("): lambda m: m.mark(),
    ord("t"): lambda m: m.pack(),
    0x85: lambda m: m.pack(1),
    0x86: lambda m: m.pack(2),
    0x87: lambda m: m.pack(3),
    ord("a"): lambda m: m.extend(1),
    ord("e"): lambda m: m.extend(),
    ord("s"): lambda m: m.update(2),
    ord("u"): lambda m: m.update(),
    ord("q"): lambda m: m.remember(m.number("<B")),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(),
    ord("c"): lambda m: m.mention(m.line(), m.line()),
    0x93: lambda m: m.mention(*m.pop(2)),
    ord("R"): lambda m: m.reduce(),
    ord("b"): lambda m: m.build(),
}
"""Opcodes that change the stack, the memo, or nothing."""
