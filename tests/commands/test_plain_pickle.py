"""Pickles of plain data, of more than that, and damaged ones."""

import collections
import datetime
import functools
import os
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zreward_core.commands.serving.plain_pickle import NotPlain, load_plain, texts

PLAIN = {
    "images": [b"\xff\xd8", b""],
    "prompts": ("a", "é"),
    "metadata": {"seed": 1, "scale": 0.5, "on": True, "none": None},
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_data(protocol: int) -> None:
    assert load_plain(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_texts(protocol: int, order: str) -> None:
    array = np.array(["a red circle", "é𝄞", ""]).astype(f"{order}U12")
    for given_array in (array, array[::2], array.astype(object)):
        found = load_plain(pickle.dumps(given_array, protocol)) if protocol > 2 else None
        assert found is None or texts(found, "prompts") == given_array.tolist()


class Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_nothing_is_executed(tmp_path: Path) -> None:
    content = pickle.dumps({"images": [Marker(tmp_path / "made")]})
    with pytest.raises(NotPlain, match="mkdir is refused"):
        load_plain(content)
    assert not (tmp_path / "made").exists()
    pickle.loads(content)  # it would be
    assert (tmp_path / "made").exists()


REFUSED = {
    "a function": pickle.dumps(len),
    "a class": pickle.dumps(dict),
    "an ordered dictionary": pickle.dumps(collections.OrderedDict(a=1)),
    "a date": pickle.dumps(datetime.date(2026, 1, 1)),
    "a partial": pickle.dumps(functools.partial(print, 1)),
    "a number of numpy": pickle.dumps(np.float32(1)),
    "an old instruction": b"cos\nsystem\n(S'true'\ntR.",
    "an instance": b"(S'true'\nios\nsystem\n.",
    "an extension": b"\x82\x01.",
    "a persistent id": b"Pname\n.",
    "a huge index": b"I1\nr\xff\xff\xff\x7f(lr\xff\xff\xff\x7fcos\nsystem\n.",
    "a long frame": b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "long bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a long number": b"I" + b"9" * 5000 + b"\n.",
    "nothing": b"",
    "text": b"hello",
    "JSON": b'{"images": []}',
    "an empty stack": b".",
    "a value that is called": b"I1\n)R.",
    "a state of a list": b"]}b.",
    "a state of a function": b"cnumpy.core.multiarray\n_reconstruct\n(N}Va\nI1\nstb.",
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_content_is_refused(case: str) -> None:
    with pytest.raises(NotPlain):
        load_plain(REFUSED[case])


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3),
        np.array([b"a"]),
        np.array([["a"]]),
        np.array([1, "a"], dtype=object),
        np.array(["a"] * 5000),
        [1],
        "a",
        None,
    ],
)
def test_what_is_no_list_of_texts_is_refused(value: object) -> None:
    with pytest.raises(NotPlain):
        texts(load_plain(pickle.dumps(value)), "prompts")


OPCODES = st.sampled_from([code.code.encode("latin-1") for code in pickletools.opcodes])
PART = st.one_of(OPCODES, st.binary(max_size=4), st.just(b"cnumpy\ndtype\n"), st.just(b"I1\n"))
ARRAY = pickle.dumps({"prompts": np.array(["a", "b"])})


@example(b"\x96cnumpy\ndtype\n")  # a bytearray of 8 EB
@given(st.lists(PART, max_size=12).map(b"".join))
def test_any_bytes_are_plain_or_refused(content: bytes) -> None:
    try:
        load_plain(content)
    except NotPlain:
        return


@given(st.integers(0, len(ARRAY) - 1), st.integers(0, 255))
def test_a_damaged_array_is_read_or_refused(place: int, value: int) -> None:
    content = bytearray(ARRAY)
    content[place] = value
    try:
        found = load_plain(bytes(content))
        assert all(isinstance(one, str) for one in texts(found.get("prompts"), "prompts"))
    except (NotPlain, AttributeError):
        return
