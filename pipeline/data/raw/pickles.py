"""Pickles of plain data and arrays, which can run no code."""

from __future__ import annotations

import pickle
from typing import IO, Any

import numpy as np

from pipeline.core.errors import UserError


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dicts, lists, strings, numbers and NumPy arrays, and nothing else: it can run no code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")


def _encode_latin1(text: str, encoding: str) -> bytes:
    """What Python 3 writes bytes as in old pickle protocols; no other codec is let in."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


def load_pickle(stream: IO[bytes], name: str) -> dict[str, Any]:
    """A pickled dict of plain data and arrays, its keys as text (CIFAR's and Imagenet64's official files).

    Raises:
        UserError: not such a pickle; one that asks for anything else is refused before it can act.
    """
    try:
        content = _ArrayUnpickler(stream, encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as e:
        raise UserError(
            f"{name}: not a pickle of arrays ({e}); download it again from its official page"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{name}: holds a {type(content).__name__}, expected a dict of arrays")
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}
