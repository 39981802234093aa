"""A page with a slider between before and after for every photo: one file, no network, no server."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import Any

from tqdm import tqdm

from cliplit.errors import CliplitError
from cliplit.files.atomic import writing
from cliplit.photos.formats import read_photo, reduced, without_pillows_limit
from cliplit.photos.jobs import Job

SIDE, QUALITY = 800, 82  # of the pictures in the page
READERS = 2  # threads
TEMPLATE = Path(__file__).parent / "page.html"
CARD = Template(TEMPLATE.with_name("page_card.html").read_text(encoding="utf-8"))


def write_report(path: Path, jobs: Sequence[Job], problems: Iterable[str], settings: Mapping[str, Any]) -> None:
    """Write the page, atomically, from the photos and their results.

    Args:
        problems: lines about photos that have no result.
        settings: names and values, for the head of the page.
    """
    lines = list(problems)
    with without_pillows_limit(), ThreadPoolExecutor(READERS) as pool:
        cards = list(tqdm(pool.map(_card, jobs), "report", len(jobs), leave=False, disable=None))
    counts = f"{len(jobs)} photo{'s' * (len(jobs) != 1)}" + f", {len(lines)} not enhanced" * bool(lines)
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        counts=counts,
        settings="".join(
            f"<div><dt>{_text(name)}</dt> <dd>{_text(value)}</dd></div>" for name, value in settings.items()
        ),
        cards="\n".join(cards),
        problems=_problems(lines),
    )
    with writing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _card(job: Job) -> str:
    try:
        before, size = _picture(job.source)
        after, _ = _picture(job.target)
    except CliplitError as error:  # moved since
        return _problems([str(error)])
    width, height = size
    return CARD.substitute(
        name=_text(job.name), before=before, after=after, width=width, height=height, size=f"{width} × {height}"
    )


def _picture(path: Path) -> tuple[str, tuple[int, int]]:
    """A data URI, and the size of the whole photo."""
    photo = read_photo(path, max_pixels=1 << 62)  # it was read before
    small, buffer = reduced(photo.pixels, SIDE), io.BytesIO()
    profile = photo.icc if photo.pixels.shape[2] == 3 else None
    small.save(buffer, "JPEG", quality=QUALITY, icc_profile=profile or None)
    size = photo.pixels.shape[1], photo.pixels.shape[0]
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", size


def _problems(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<section class="problems"><h2>Not enhanced</h2><ul>{items}</ul></section>' if lines else ""


def _text(value: Any) -> str:
    return html.escape(str(value))
