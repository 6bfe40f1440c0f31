"""Groups of cells and a person's answers about them."""

import numpy as np
import pytest

from base import UserError
from datalist.answer import NONE, GroupFile, Rejection, read_answers, write_answers

CLASSES = ("background", "boat", "gull, white")


@pytest.fixture
def groups(tmp_path):
    """Boats in two images with groups 1 to 3, a gull with one group."""
    code = np.array([[0, 1, 2], [3, 4, NONE]], np.uint8)
    codes = {("a", 1): code, ("b", 1): code[:1], ("a", 2): np.zeros((2, 2), np.uint8)}
    file = GroupFile(tmp_path / "groups.npz", CLASSES, codes, "of these maps", [(1, 2), (2, 1)])
    file.write()
    return file


def write(tmp_path, *lines):
    (tmp_path / "answers.csv").write_text("\n".join(["class,group,answer", *lines]) + "\n")
    return tmp_path / "answers.csv"


def test_file_comes_back(groups):
    again = GroupFile.read(groups.path)
    assert again.classes == CLASSES and again.source == "of these maps"
    assert again.asked == [(1, 2), (2, 1)]
    assert again.checksum == groups.checksum and again.codes.keys() == groups.codes.keys()
    for key, code in groups.codes.items():
        assert (again.codes[key] == code).all()
    empty = GroupFile(groups.path, CLASSES, {})
    empty.write()
    assert not GroupFile.read(groups.path).codes


def test_rejected_groups_and_halves(groups, tmp_path):
    path = write(
        tmp_path, "boat,1,both", "boat,1a,not", "Boat, 1b ,object", "boat,2,not", "boat,3,object",
        '"gull, white",size,speck', "# a remark",
    )  # fmt: skip
    answers = read_answers(path, CLASSES)
    assert answers.sizes == {2: "speck"}
    reject = Rejection(GroupFile.read(groups.path), answers)
    wrong = reject.pixels("a", 1, (4, 6))
    assert (wrong == np.repeat(np.repeat([[1, 0, 1], [1, 0, 0]], 2, 0), 2, 1)).all()
    assert not reject.pixels("a", 2, (3, 3)).any() and not reject.pixels("c", 1, (3, 3)).any()


def test_answers_come_back(tmp_path):
    given = {(1, "1"): "both", (1, "1a"): "not", (2, "size"): "half"}
    write_answers(tmp_path / "answers.csv", CLASSES, given, "01234567")
    answers = read_answers(tmp_path / "answers.csv", CLASSES)
    assert answers.groups == {(1, "1"): "both", (1, "1a"): "not"}
    assert answers.sizes == {2: "half"} and answers.maps == "01234567"


def test_checksum_follows_what_is_rejected_and_not_sizes(groups, tmp_path):
    def checksum(*lines):
        return Rejection(groups, read_answers(write(tmp_path, *lines), CLASSES)).checksum

    first = checksum("boat,1,not")
    assert first == checksum("boat,1,not", "boat,size,small", "boat,2,object")
    assert first != checksum("boat,2,not")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["ship,1,not"], "'ship' is not a class"),
        (["boat,1,maybe"], "one of object, not, both"),
        (["boat,size,huge"], "one of speck, small, half, most"),
        (["boat,one,not"], "not a group"),
        (["boat,1"], "CLASS,GROUP,ANSWER"),
        (["boat,1,not", "boat,1,object"], "is not in a line above"),
        (["boat,1,object", "boat,1a,not"], "but 1 is object"),
        (["background,1,not"], "not a class"),
    ],
)
def test_wrong_lines_are_refused(tmp_path, lines, words):
    with pytest.raises(UserError, match=words):
        read_answers(write(tmp_path, *lines), CLASSES)


def test_answers_about_other_groups_are_refused(groups, tmp_path):
    with pytest.raises(UserError, match="boat has no group 4, its groups are 1 to 3"):
        Rejection(groups, read_answers(write(tmp_path, "boat,4,not"), CLASSES))
    mine = read_answers(write(tmp_path, f"# maps {groups.checksum}", "boat,1,not"), CLASSES)
    assert Rejection(groups, mine).wrong[1][:2].all()
    other = read_answers(write(tmp_path, "# maps 01234567", "boat,1,not"), CLASSES)
    with pytest.raises(UserError, match="other maps"):
        Rejection(groups, other)


def test_damaged_groups_are_refused(groups, tmp_path):
    with pytest.raises(UserError, match="no groups"):
        GroupFile.read(tmp_path / "none.npz")
    content = dict(np.load(groups.path))
    for name, value in (("shape", content["shape"] * 2), ("index", content["index"][:1])):
        np.savez(groups.path, **{**content, name: value})
        with pytest.raises(UserError, match="do not fit"):
            GroupFile.read(groups.path)
    groups.path.write_bytes(b"x")
    with pytest.raises(UserError):
        GroupFile.read(groups.path)
