"""Photos of any shape, depth and kind, written and read again, and names of any sort: what holds for all of them."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cliplit.errors import CliplitError
from cliplit.files.images import decode
from cliplit_photos.formats import FORMATS, READ, Photo, photo_size, read_photo, write_photo
from cliplit_photos.jobs import plan_jobs

often = settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
DEPTHS = {"PNG": (np.uint8, np.uint16), "TIFF": (np.uint8, np.uint16, np.float32), "PPM": (np.uint8, np.uint16)}
WITHOUT_ALPHA = ("PPM", "BMP")
LOSSY = {"JPEG": 6, "WEBP": 6, "AVIF": 6, "HEIF": 6}  # steps of 8 bits that a photo of one colour may be off
ENDINGS = {kind: ending for ending, kind in FORMATS.items()}


@st.composite
def photos(draw: st.DrawFn, kind: str) -> Photo:
    """A photo of noise that a format holds without loss."""
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    channels = 3 if kind == "WEBP" else draw(st.sampled_from([1, 3]))
    dtype = draw(st.sampled_from(DEPTHS.get(kind, (np.uint8,))))
    random = np.random.default_rng(draw(st.integers(0, 99))).random((*size, channels + 1), np.float32)
    values = random if dtype == np.float32 else (random * np.iinfo(dtype).max).round().astype(dtype)
    alpha = values[..., -1].copy() if kind not in WITHOUT_ALPHA and draw(st.booleans()) else None
    options = {"lossless": True} if kind == "WEBP" else {"compressed": draw(st.booleans())} if kind == "TIFF" else {}
    return Photo(values[..., :-1].copy(), alpha, kind=kind, options=options)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "BMP", "WEBP"])
def test_what_is_written_without_loss_is_read_again(kind):
    @often
    @given(photos(kind))
    def holds(photo: Photo) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{ENDINGS[kind]}"
            assert write_photo(photo, path, kind) == []
            again = read_photo(path)
            height, width = photo.pixels.shape[:2]
            assert photo_size(path) == (width, height) and decode(path).shape == (height, width, 3)
            assert again.pixels.dtype == photo.pixels.dtype and np.array_equal(again.pixels, photo.pixels)
            assert (again.alpha is None) == (photo.alpha is None or (kind == "WEBP" and photo.alpha.min() == 255))
            assert again.alpha is None or np.array_equal(again.alpha, photo.alpha)
            assert again.notes == []

    holds()


@pytest.mark.parametrize("kind", LOSSY)
def test_what_is_written_with_loss_is_much_the_same(kind):
    @often
    @given(st.integers(1, 40), st.integers(1, 40), st.lists(st.integers(0, 255), min_size=3, max_size=3), st.booleans())
    def holds(height: int, width: int, colour: list[int], grey: bool) -> None:
        channels = colour[:1] if grey else colour
        pixels = np.broadcast_to(np.uint8(channels), (height, width, len(channels)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{ENDINGS[kind]}"
            write_photo(Photo(np.ascontiguousarray(pixels), kind=kind), path, kind)
            shown = read_photo(path).pixels if kind == "HEIF" else decode(path)
            assert photo_size(path) == (width, height) and shown.shape == (height, width, 3)
            assert np.abs(shown.astype(int) - pixels).max() <= LOSSY[kind]

    holds()


@pytest.mark.parametrize("kind", sorted(set(FORMATS.values())))
def test_every_photo_can_be_written_as_every_kind_and_what_is_lost_is_said(kind):
    @often
    @given(photos("TIFF"))
    def holds(photo: Photo) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{ENDINGS[kind]}"
            notes = write_photo(photo, path, kind)
            again = read_photo(path)
            assert again.pixels.shape[:2] == photo.pixels.shape[:2]
            if again.pixels.dtype != photo.pixels.dtype:
                assert any("bits" in note for note in notes)
            if photo.alpha is not None and again.alpha is None and photo.alpha.min() < photo.alpha.max():
                assert any("transparency" in note for note in notes)

    holds()


names = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.binary(min_size=1, max_size=40).map(lambda name: os.fsdecode(name.replace(b"/", b"").replace(b"\0", b""))),
)


@often
@given(st.lists(st.tuples(names, st.sampled_from(sorted(READ))), min_size=1, max_size=8, unique=True))
def test_every_photo_of_any_name_has_a_result_of_its_own(given_names):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        for stem, ending in given_names:
            name = f"{stem}{ending}"
            assume(not name.startswith((".", "@", "#", "$")))  # which are not looked at in folders
            (folder / name).write_bytes(b"")
        out = Path(temporary) / "out"
        there = sorted(folder.iterdir())
        try:
            jobs, *_ = plan_jobs([folder], out)
        except CliplitError as error:  # a.gif beside a.gif.png
            assert "would both become" in str(error) and "\n" not in str(error)
            return
        assert sorted(job.source for job in jobs) == there
        targets = {job.target for job in jobs}
        assert len(targets) == len(jobs)
        assert all(target.parent == out and target.suffix.lower() in FORMATS for target in targets)
        assert all(job.target.name.startswith(job.source.name) for job in jobs)
