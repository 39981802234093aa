"""Files that take the place of others, through links and with the longest names."""

import os

import pytest

from cliplit.files.atomic import LONGEST_NAME, writing


def replace(path, text="new") -> str:
    """Write a file; the name that it has while it is written."""
    with writing(path) as temporary:
        temporary.write_text(text)
    return temporary.name


def test_a_link_stays_one_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    for name, target in ("first", tmp_path / "far" / "file"), ("second", "first"), ("dangling", "far/made"):
        (tmp_path / name).symlink_to(target)
    for name, file in ("second", "file"), ("dangling", "made"):
        replace(tmp_path / name)
        assert (tmp_path / name).is_symlink() and (tmp_path / "far" / file).read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "far", "file", "first", "made", "second"]


@pytest.mark.parametrize("letter", ["a", "é", "🌅"])
def test_the_longest_names(tmp_path, letter):
    path = tmp_path / (letter * (255 // len(letter.encode())))
    hidden = replace(path)
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 1
    assert len(os.fsencode(hidden)) <= LONGEST_NAME
    assert hidden != replace(path.with_name(path.name[:-1]))
    assert replace(tmp_path / "a.jpg") == ".a.jpg.partial"
