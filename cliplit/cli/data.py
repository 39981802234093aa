"""`cliplit data`: get, verify, prepare and synthesize data sets."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from cliplit.cli.shared import FOLDERS, Root, counted, flag, of_settings, takes
from cliplit.errors import CliplitError
from cliplit.files.web import is_inside

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the new data set: a folder in --root.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets in --root (`cliplit data list`).")]
Given = Annotated[list[Path], typer.Option("--from", metavar="PATH", help="A file or folder to import; repeatable.")]
Force = Annotated[bool, flag("--force", "Replace the data set if it exists.")]
SkipBad = Annotated[bool, flag("--skip-bad", "Leave out images that cannot be used.")]


@app.command("list")
def list_data_sets(root: Root = Path("data")) -> None:
    """List the known data sets, and those in --root."""
    from cliplit.data.manifest import CATALOG, has_manifest, read_manifest

    for name, known in CATALOG.items():
        print(f"{name}: {known.title}{f'; in {root}' if has_manifest(root / name) else ''}")
        print(f"  {', '.join(f'{part.count} {part.role}' for part in known.subsets)}; from {', '.join(known.sources)}")
        print(f"  licence: {known.licence}")
    for path in sorted(root.glob("*")):
        if path.name not in CATALOG and has_manifest(path):
            print(f"{path.name}: {read_manifest(path).source}; in {root}")


@app.command()
def get(
    names: Names,
    root: Root = Path("data"),
    given: Given = (),
    source: Annotated[str, typer.Option(metavar="NAME", help="Source to download from. Default: the first one.")] = "",
    skip_bad: SkipBad = False,
    force: Force = False,
) -> None:
    """Download known data sets, or import them with --from.

    A data set is unpacked, and every image is checked, before it is put into ROOT/NAME. Use it with `cliplit reproduce
    --data ROOT/NAME`. An interrupted download resumes where it stopped.
    """
    from cliplit.data.get import get_data_set

    for name in names:
        print(get_data_set(name, root, given, source, skip_bad, force))


@app.command()
def verify(names: Names, root: Root = Path("data")) -> None:
    """Check every image of data sets.

    The check covers counts, readability, duplicates, pairs and sizes. Exit code 0: no problems; 1: problems found; 2: no
    such data set.
    """
    from cliplit.data.get import verify_folder

    reports = {root / name: verify_folder(root / name) for name in names}
    for folder, report in reports.items():
        print(f"{folder}: {counted(len(report.problems), 'problem')}")
        _show(report.images, report.findings)
    raise typer.Exit(1 if any(report.problems for report in reports.values()) else 0)


@app.command()
@takes(given=of_settings(FOLDERS))
def prepare(
    *,
    name: Name,
    root: Root = Path("data"),
    given: dict[str, Any],
    size: Annotated[int, typer.Option(min=0, metavar="PIXELS", help="Side of training images; 0: unchanged.")] = 512,
    skip_bad: SkipBad = False,
    force: Force = False,
) -> None:
    """Make a data set from folders or other data sets.

    Training images are resized to squares, as in the authors' training. Test images are copied.
    """
    from cliplit.data.prepare import prepare_data_set
    from cliplit.profiles import profile

    made = prepare_data_set(_inside(root, name), profile("paper", given).data, size, skip_bad, force)
    _show(made.images, made.problems, sys.stderr)
    print(root / name)


@app.command()
def synthesize(
    name: Name,
    photos: Annotated[Path, typer.Option("--from", metavar="DIR", help="A folder of well-lit photos.")],
    root: Root = Path("data"),
    level: Annotated[str, typer.Option(help="Strength of the backlight: mild, medium, severe or mixed.")] = "medium",
    test_share: Annotated[float, typer.Option(help="Share of the photos that become test pairs.")] = 0.2,
    size: Annotated[int, typer.Option(min=0, metavar="PIXELS", help="Longest side; 0: unchanged.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of the draw of scenes, masks and noise.")] = 0,
    skip_bad: SkipBad = False,
    force: Force = False,
) -> None:
    """Make a data set from any photos by simulating backlight.

    Each photo is used once: as a test pair, as a backlit or as a well-lit training image. For the same seed, a photo has
    the same role at every level.
    """
    from cliplit.data.prepare import synthesize_data_set

    made = synthesize_data_set(_inside(root, name), photos, level, test_share, seed, size, skip_bad, force)
    _show(made.images, made.problems, sys.stderr)
    print(root / name)


def _inside(root: Path, name: str) -> Path:
    """The folder of a new data set. Raises CliplitError for a name that leads to the root itself, or out of it."""
    if not is_inside(name):
        raise CliplitError(f"'{name}' is not a valid name for a folder in {root}; choose another name")
    return root / name


def _show(images: Iterable[Any], findings: Iterable[object], file: IO[str] | None = None) -> None:
    """Print the number of images of each role, and the findings."""
    counts = Counter(image.role for image in images)
    lines = [f"{role:15} {counted(count, 'image')}" for role, count in counts.items()]
    print(*(f"  {line}" for line in (*lines, *findings)), sep="\n", file=file)
