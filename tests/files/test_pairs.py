"""Which reference an image has; different images are never taken for copies, and what is ambiguous is named."""

import unicodedata
from pathlib import Path

import pytest

from cliplit.errors import CliplitError
from cliplit.files.folders import Pairs, find_images, pair

COMPOSED = unicodedata.normalize("NFC", "Tür")
DECOMPOSED = unicodedata.normalize("NFD", "Tür")


def paired(folder: Path, images: dict[str, str], references: dict[str, str], recursive: bool = True) -> Pairs:
    """Pairs of files of these names and contents, in `results` and `gt`."""
    for side, files in {"results": images, "gt": references}.items():
        for name, content in files.items():
            path = folder / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return pair(find_images([folder / "results"], recursive), folder / "gt", recursive)


def names(pairs: Pairs, folder: Path) -> dict[str, str]:
    return {name: path.relative_to(folder / "gt").as_posix() for name, path in pairs.references.items()}


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("a.png", "a.jpg"),
        ("a.PNG", "a.JPG"),
        ("IMG_1.png", "img_1.jpg"),
        (f"{COMPOSED}.png", f"{DECOMPOSED}.png"),
        (f"{DECOMPOSED}.png", f"{COMPOSED}.png"),
        ("a.gif.png", "a.gif.png"),
        ("a.gif.png", "a.png"),
        ("a.nef.tif", "a.png"),
        ("a.CR3.png", "A.jpg"),
        ("a.b.png", "a.b.jpg"),
        ("0152(2).png", "0152.jpg"),
        ("0152 (2).png", "0152.jpg"),
        ("0152(2).gif.png", "0152.jpg"),
        ("view(3).png", "view(3).jpg"),
        ("day/a.png", "day/a.jpg"),
        ("day/a.png", "a.jpg"),
        ("a.png", "day/a.jpg"),
        ("day/a.gif.png", "Day/A.jpg"),
    ],
)
def test_names_that_belong_together(tmp_path, image, reference):
    pairs = paired(tmp_path, {image: "1"}, {reference: "2"})
    assert names(pairs, tmp_path) == {image: reference} and not pairs.problems


@pytest.mark.parametrize(("image", "reference"), [("1.png", "10.png"), ("a.b.png", "a.png"), ("a.png", "a(2).png")])
def test_names_that_do_not(tmp_path, image, reference):
    pairs = paired(tmp_path, {image: "1"}, {reference: "2"})
    assert not pairs.references and len(pairs.problems) == 2
    assert image in pairs.problems[0] and reference in pairs.problems[1]


def test_exact_names_come_before_those_that_are_only_like_them(tmp_path):
    files = {"a.png": "1", "A.png": "2", "a(2).png": "3", "a.gif.png": "4", "x/a.png": "5"}
    pairs = paired(tmp_path, files, files)
    assert names(pairs, tmp_path) == {name: name for name in files} and not pairs.problems and not pairs.duplicates


def test_copies_are_counted_once_by_content(tmp_path):
    images = {"0152.png": "1", "0152(2).png": "1", "0153(1).png": "2", "0153(2).png": "2"}
    pairs = paired(tmp_path, images, {"0152.jpg": "3", "0153.jpg": "4"})
    assert names(pairs, tmp_path) == {"0152.png": "0152.jpg", "0153(1).png": "0153.jpg"}
    assert pairs.duplicates == ["0152(2).png", "0153(2).png"] and not pairs.problems


def test_copies_with_references_of_their_own_are_counted_once_if_these_are_copies_too(tmp_path):
    pairs = paired(tmp_path, {"a.png": "1", "a(2).png": "1"}, {"a.jpg": "2", "a(2).jpg": "2"})
    assert pairs.duplicates == ["a(2).png"] and not pairs.problems
    pairs = paired(tmp_path, {}, {"a(2).jpg": "3"})
    assert names(pairs, tmp_path) == {"a.png": "a.jpg", "a(2).png": "a(2).jpg"} and not pairs.duplicates


@pytest.mark.parametrize("other", ["a(2).png", "a (1).png", "A.png", "a.gif.png"])
def test_another_picture_is_no_copy_and_is_named_with_the_one_that_it_is_like(tmp_path, other):
    pairs = paired(tmp_path, {"a.png": "1", other: "2"}, {"a.jpg": "3"})
    assert names(pairs, tmp_path) == {"a.png": "a.jpg"} and not pairs.duplicates
    (line,) = pairs.problems
    assert all(word in line for word in ("a.png", other, "a.jpg", "different images"))


def test_of_several_that_are_only_like_a_reference_none_is_preferred(tmp_path):
    pairs = paired(tmp_path, {"a(1).png": "1", "a(2).png": "2"}, {"a.jpg": "3"})
    assert not pairs.references and not pairs.duplicates
    assert pairs.problems == [
        "a(1).png and a(2).png: different images that may belong to a.jpg; rename or remove all but one"
    ]


def test_images_of_one_stem_share_their_reference(tmp_path):
    pairs = paired(tmp_path, {"a.jpg": "1", "a.png": "2"}, {"a.png": "3"})
    assert names(pairs, tmp_path) == {"a.jpg": "a.png", "a.png": "a.png"} and not pairs.problems


def test_methods_in_folders_share_references_that_lie_in_one(tmp_path):
    pairs = paired(tmp_path, {"a.png": "0", "ours/a.png": "1", "theirs/a.png": "2"}, {"a.png": "3"})
    assert names(pairs, tmp_path) == dict.fromkeys(["a.png", "ours/a.png", "theirs/a.png"], "a.png")
    assert not pairs.problems


def test_a_reference_of_another_path_is_not_taken_from_its_image(tmp_path):
    pairs = paired(tmp_path, {"x/a.png": "1", "y/a.png": "2"}, {"y/a.png": "3"})
    assert names(pairs, tmp_path) == {"y/a.png": "y/a.png"}
    assert len(pairs.problems) == 1 and pairs.problems[0].startswith("x/a.png: no file 'a.*'")


def test_several_references_are_all_named_and_none_is_taken(tmp_path):
    pairs = paired(
        tmp_path, {"a.png": "1", "b.webp": "1"}, {"x/a.png": "1", "y/a.jpg": "2", "b.png": "1", "b.jpg": "1"}
    )
    assert not pairs.references
    assert pairs.problems == [
        "a: several references (x/a.png, y/a.jpg); keep only one",
        "b: several references (b.jpg, b.png); keep only one",
    ]


def test_what_is_no_image_is_no_reference(tmp_path):
    others = [
        "._a.jpg",
        "@eaDir/a.jpg",
        "a.jpg.compare.jpg",
        "a.jpg.illumination.png",
        "cliplit-enhance.jsonl",
        "a.txt",
    ]
    pairs = paired(tmp_path, {"a.png": "1"}, {"a.jpg": "2"} | dict.fromkeys(others, "3"))
    assert names(pairs, tmp_path) == {"a.png": "a.jpg"} and not pairs.problems


def test_a_reference_that_cannot_be_read_is_named(tmp_path):
    pairs = paired(tmp_path, {"a.png": "1", "b.png": "2"}, {"a.psd": "3", "b.png": "4"})
    (line,) = pairs.problems
    assert line.startswith("a.png: no file 'a.*' in") and "(a.psd: " in line and "convert it" in line


def test_references_without_an_image_are_named_unless_they_are_copies(tmp_path):
    pairs = paired(tmp_path, {"a.png": "1"}, {"a.png": "2", "a(2).png": "2", "a(3).png": "3", "day/b.png": "4"})
    assert pairs.problems == [
        "a(3).png: a reference without an image",
        "day/b.png: a reference without an image",
    ]


def test_one_file_is_the_reference_of_one_image_whatever_their_names(tmp_path):
    paired(tmp_path, {"a.png": "1"}, {"b.png": "2"})
    pairs = pair(find_images([tmp_path / "results"]), tmp_path / "gt" / "b.png")
    assert names(pairs, tmp_path) == {"a.png": "b.png"}


def test_folders_below_are_looked_into_only_if_asked(tmp_path):
    with pytest.raises(CliplitError, match="gt: no images here"):
        paired(tmp_path, {"a.png": "1"}, {"day/a.png": "2"}, recursive=False)


def test_the_very_name_comes_before_the_stem(tmp_path):
    """So a folder of a.jpg and a.png can be compared with itself, and with its originals."""
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).write_text(name)
    found = pair(find_images([tmp_path]), tmp_path)
    assert found.references == {name: tmp_path / name for name in ("a.jpg", "a.png")} and not found.problems
