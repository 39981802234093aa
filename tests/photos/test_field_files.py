"""Photo files as people have them, read and written with no pixel changed; looked at by other means than ours."""

from pathlib import Path

import pytest
from field_files import CASES, EXIFTOOL, look, wrong

from cliplit.errors import CliplitError
from cliplit.files.images import decode, size_in
from cliplit_photos.formats import FORMATS, read_photo, write_photo


def rewritten(source: Path, folder: Path) -> tuple[Path, list[str]]:
    """A photo written again under the name that `enhance` gives it, and what was said."""
    ending = source.suffix.lower()
    target = folder / (source.name if ending in FORMATS else f"{source.name}.png")
    photo = read_photo(source)
    return target, photo.notes + write_photo(photo, target, FORMATS[target.suffix.lower()])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")  # of libraries, about files that are broken on purpose
def test_what_must_hold_does(tmp_path, name):
    content, right = CASES[name].make()
    source = tmp_path / name
    source.write_bytes(content)
    results = tmp_path / "results"
    results.mkdir()
    if right.pixels is None:
        with pytest.raises(CliplitError, match=name) as refused:
            rewritten(source, results)
        assert "\n" not in str(refused.value) and not list(results.iterdir())
        return
    result, notes = rewritten(source, results)
    assert wrong(right, result, notes) == "", f"{CASES[name].holds}; said: {notes}"
    assert source.read_bytes() == content


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.make()[1].pixels is not None])
@pytest.mark.filterwarnings("ignore")
def test_scores_see_the_same_picture_as_enhance(tmp_path, name):
    """`decode` and `size_in`, by which images are scored, against the pixels of `read_photo`."""
    source = tmp_path / name
    source.write_bytes(CASES[name].make()[0])
    if source.suffix in (".heic", ".dng"):
        with pytest.raises(CliplitError, match="convert it, e.g. cliplit enhance"):
            decode(source)
        return
    photo = read_photo(source)
    height, width, _ = photo.pixels.shape
    decoded = decode(source)
    with open(source, "rb") as file:
        assert size_in(file) == (width, height)
    assert decoded.shape == (height, width, 3)
    assert decoded.dtype == photo.pixels.dtype
    assert name.startswith("associated_") or (decoded == photo.pixels).all()  # `decode` leaves premultiplied colours


def test_the_checks_see_what_is_wrong(tmp_path):
    """What is looked for is found: the sources themselves are not yet upright, and say what is no longer so."""
    found = {}
    by_exiftool = ("turned_6.jpg", "thumbnail.jpg") if EXIFTOOL else ()  # which need not be installed
    for name in ("turned_in_xmp.jpg", "ultra_hdr.jpg", "motion_photo.jpg", "mpo.jpg", *by_exiftool):
        content, right = CASES[name].make()
        (tmp_path / name).write_bytes(content)
        found[name] = wrong(right, tmp_path / name, [])
    assert all(found.values())
    content, right = CASES["deep_colour.png"].make()
    (tmp_path / "a.png").write_bytes(content)
    assert (look(tmp_path / "a.png") == right.pixels).all() and wrong(right, tmp_path / "a.png", []) == ""
    (tmp_path / "b.png").write_bytes(CASES["gamma_8.png"].make()[0])
    assert wrong(right, tmp_path / "b.png", []) == "8 bits"
    assert wrong(CASES["gamma_8.png"].make()[1], tmp_path / "a.png", []).startswith("pixels off")
