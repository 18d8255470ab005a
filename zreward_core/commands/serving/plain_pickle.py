"""Pickles of plain data, read without executing anything that they name.

Two trainers send their images in pickles. The pickle format can name any function to be called;
here every name is refused, except four of numpy, with which a trainer sends its prompts as an
array of texts: they stand for the inert classes of this file, and the array is read as a list.
Read by Python's own reader: the one in C allocates memory for an index that the pickle names.
"""

import io
import pickle
import struct
from typing import Any

FAULTS = (
    pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError,
    RecursionError, OverflowError, ImportError, AssertionError, NameError, struct.error,
)  # fmt: skip
"""What Python's reader raises for a pickle that is damaged or names what is refused."""
MAX_ITEMS = 4096
BYTES_PER_CHARACTER = 4


class NotPlain(ValueError):
    """Not a pickle, or one of more than plain data."""


def load_plain(content: bytes) -> Any:
    """Lists, tuples, dictionaries, sets, bytes, str, int, float, bool and None of a pickle.

    Raises:
        NotPlain: the content is something else.
    """
    try:
        return _Reader(content).load()
    except FAULTS as error:
        raise NotPlain(f"not a pickle of plain data ({str(error)[:200]})") from None


def texts(value: object, name: str) -> list[str]:
    """A list of texts, or an array of them.

    Raises:
        NotPlain: it is something else.
    """
    found = value.items() if isinstance(value, _Array) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise NotPlain(f"{name} must be a list of texts")
    return list(found)


class _Type:
    """Stands for a dtype."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class _Array:
    """Stands for an array."""

    state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def items(self) -> list[str]:
        """Texts of the array.

        Raises:
            NotPlain: it is an array of something else, or damaged.
        """
        try:
            _, shape, kind, _, content = self.state
            if isinstance(content, list):  # of objects
                return content
            width = int(kind.code[1:])
            (count,) = shape
            if kind.code[0] != "U" or not width or count > MAX_ITEMS:
                raise NotPlain("an array must be of texts")
            size = width * BYTES_PER_CHARACTER
            if len(content) != count * size:
                raise NotPlain("an array is damaged")
            encoding = "utf-32-be" if kind.order == ">" else "utf-32-le"
            return [
                content[start : start + size].decode(encoding).rstrip("\0")
                for start in range(0, len(content), size)
            ]
        except FAULTS as error:
            raise NotPlain(f"an array is damaged ({str(error)[:200]})") from None


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(buffer: bytes, kind: _Type, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.state = (1, shape, kind, order == "F", bytes(buffer))
    return array


_STANDS_FOR = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}


_PYTHON_READER: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _Reader(_PYTHON_READER):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._size = len(content)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STANDS_FOR:
            raise pickle.UnpicklingError(f"{module}.{name} is refused"[:200])
        return _STANDS_FOR[module, name]

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], _Type | _Array):  # a function has attributes to set
            raise pickle.UnpicklingError("a state is refused")
        super().load_build()

    def load_bytearray8(self) -> None:  # Python's reader allocates the size that is named first
        (size,) = struct.unpack("<Q", self.read(8))
        if size > self._size:
            raise pickle.UnpicklingError("a bytearray is longer than the pickle")
        self.append(bytearray(self.read(size)))

    dispatch = {
        **_PYTHON_READER.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("an extension is refused")
