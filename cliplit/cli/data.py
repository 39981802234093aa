"""`cliplit data`: get, verify, prepare and synthesize data sets."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cliplit.cli.shared import FOLDERS, Root, flag, of_settings, print_columns, takes
from cliplit.errors import CliplitError

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Folder of the new data set in --root.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets (`cliplit data list`), in --root.")]
Given = Annotated[list[Path], typer.Option("--from", metavar="PATH", help="Fetched by hand, for one NAME; repeatable.")]
Force = Annotated[bool, flag("--force", "Make it again if it is there.")]
Seed = Annotated[int, typer.Option(help="Of the draw of scenes.")]
SkipBad = Annotated[bool, flag("--skip-bad", "Leave out images that cannot be used.")]
TestShare = Annotated[float, typer.Option(help="Share of the scenes that become test pairs.")]


@app.command("list")
def list_data_sets(root: Root = Path("data")) -> None:
    """List the known data sets, and those in --root."""
    from cliplit.data.manifest import CATALOG, ROLES, has_manifest, read_manifest

    rows = [["name", "images", "sources", "in " + str(root), "title"]]
    for name, known in CATALOG.items():
        images = ", ".join(f"{part.count} {part.role}" for part in known.subsets)
        there = "yes" if has_manifest(root / name) else ""
        rows.append([name, images, ", ".join(known.sources), there, known.title])
    for path in sorted(root.glob("*")):
        if path.name not in CATALOG and has_manifest(path):
            found = read_manifest(path)
            images = ", ".join(f"{len(found.of(role))} {role}" for role in ROLES if found.of(role))
            rows.append([path.name, images, "", "yes", found.source])
    print_columns(rows)
    print()
    print_columns([["name", "licence"], *([name, known.licence] for name, known in CATALOG.items())])


@app.command()
def get(
    names: Names,
    root: Root = Path("data"),
    given: Given = (),
    source: Annotated[str, typer.Option(metavar="NAME", help="Where to download from, if not the first source.")] = "",
    accept: Annotated[bool, flag("--accept-problems", "Keep the good images of a set that is not complete.")] = False,
    force: Force = False,
) -> None:
    """Download known data sets, or take them from --from.

    Each is unpacked, checked image by image, and only then put into ROOT/NAME; `cliplit reproduce --data ROOT/NAME`
    uses it. An interrupted download resumes where it stopped.
    """
    from cliplit.data.get import get_data_set

    if given and len(names) > 1:
        raise CliplitError("--from belongs to one data set: give one NAME")
    for name in names:
        print(get_data_set(name, root, given, source, accept, force, partial(print, file=sys.stderr)))


@app.command()
def verify(
    names: Names,
    root: Root = Path("data"),
    output: Annotated[str, typer.Option("--json", metavar="FILE", help="Also write the reports as JSON.")] = "",
) -> None:
    """Look at every image of data sets: counts, readability, duplicates, pairs, sizes.

    Exit code 0: nothing wrong; 1: problems found; 2: no such data set.
    """
    from cliplit.data.get import verify_folder
    from cliplit.files.atomic import write_json

    reports = [verify_folder(root / name) for name in names]
    for report in reports:
        print("\n".join(report.lines()))
    if output:
        write_json([report.to_json() for report in reports], Path(output))
    raise typer.Exit(1 if any(report.problems for report in reports) else 0)


@app.command()
@takes(given=of_settings(FOLDERS))
def prepare(
    *,
    name: Name,
    root: Root = Path("data"),
    given: dict[str, Any],
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Side of training images; 0: as they are.")] = 512,
    unpair: Annotated[bool, flag("--unpair", "Backlit and well-lit images are pairs: take them apart.")] = False,
    test_share: TestShare = 0.0,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    force: Force = False,
) -> None:
    """Make a data set of folders or other data sets.

    Training images are resized to squares, as the authors trained; test images are copied. Without folders:
    ROOT/NAME-SIZE from the data set ROOT/NAME.
    """
    from cliplit.data.manifest import has_manifest
    from cliplit.data.prepare import prepare_data_set
    from cliplit.profiles import profile

    target = root / name
    if not given and has_manifest(target):
        given, target = {"data.sets": (str(target),)}, root / f"{name}-{size}"
    sources = profile("paper", given).data
    report = prepare_data_set(target, sources, size, unpair, test_share, seed, skip_bad, force)
    print("\n".join(report.lines()[1:]), file=sys.stderr)
    print(target)


@app.command()
def synthesize(
    name: Name,
    photos: Annotated[Path, typer.Option("--from", metavar="DIR", help="A folder of well-lit photos.")],
    root: Root = Path("data"),
    level: Annotated[str, typer.Option(help="mild, medium, severe or mixed backlight.")] = "medium",
    test_share: TestShare = 0.2,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Longest side; 0: as the photos are.")] = 1024,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    force: Force = False,
) -> None:
    """Make a data set of any photos by simulating backlight.

    Each photo serves once: as a test pair, or on one side of the training. The same seed gives the same roles at
    every level.
    """
    from cliplit.data.manifest import ROLES
    from cliplit.data.prepare import synthesize_data_set

    made = synthesize_data_set(root / name, photos, level, test_share, seed, size, skip_bad, force)
    print(*(f"  {role:15} {len(made.of(role))} images" for role in ROLES), *made.problems, sep="\n", file=sys.stderr)
    print(root / name)
