"""A page with a slider between before and after for every photo: one file, no network, no server."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template
from tqdm import tqdm

from cliplit.errors import CliplitError, printable, reason_of
from cliplit_photos.formats import read_photo, reduced
from cliplit_photos.jobs import Job

SIDE = 800  # pixels, longer side of the pictures in the page
QUALITY = 82  # of these, as JPEG
READERS = 2  # threads
TEMPLATE = Path(__file__).parent / "page.html"


def report_page(jobs: Sequence[Job], problems: Iterable[str], settings: Mapping[str, Any]) -> str:
    """The page as HTML, from the photos and their results.

    Args:
        problems: lines about photos that have no result.
        settings: names and values, for the head of the page.
    """
    with ThreadPoolExecutor(READERS) as pool:
        cards = list(tqdm(pool.map(_card, jobs), "report", len(jobs), leave=False, disable=None))
    template = Template(
        TEMPLATE.read_text(encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return template.render(
        cards=cards,
        problems=[*map(printable, problems)],
        settings={name: printable(str(value)) for name, value in settings.items()},
    )


def _card(job: Job) -> dict[str, Any]:
    """The entry of a photo on the page: two pictures as data URIs, or why they are missing."""
    name = printable(job.name)
    problem = before = after = ""
    width = height = 0  # pixels, of the whole photo
    try:
        before, width, height = _picture(job.source)
        after, _, _ = _picture(job.target)
    except CliplitError as error:  # moved meanwhile
        problem = printable(str(error))
    except Exception as error:  # of any kind: it must not stop the other photos
        problem = f"{name}: cannot be shown ({printable(reason_of(error))})"
    return {"name": name, "before": before, "after": after, "width": width, "height": height, "problem": problem}


def _picture(path: Path) -> tuple[str, int, int]:
    """A small picture as a data URI, and width and height of the whole photo."""
    photo = read_photo(path, max_pixels=1 << 62)  # it was read before
    height, width, channels = photo.pixels.shape
    profile = photo.icc if channels == 3 else b""  # a grey profile does not fit
    buffer = io.BytesIO()
    reduced(photo.pixels, SIDE).save(buffer, "JPEG", quality=QUALITY, icc_profile=profile or None)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height
