"""A few hostile files for every reader; python tests/fuzz.py has them by the ten thousand."""

import warnings

import pytest
from fuzz import READERS, one


@pytest.mark.parametrize("name", READERS)
def test_reader_refuses_in_a_sentence_or_reads(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(100):
            assert one(name, 0, number, tmp_path) is None, f"case {number}"
            (tmp_path / "box" / name).unlink()
