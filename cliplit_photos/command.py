"""`cliplit enhance`."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cliplit
from cliplit.cli.shared import counted, fields_of, flag, joined, not_looked_into, takes
from cliplit.engine import processes
from cliplit.errors import CliplitError, printable
from cliplit.files.atomic import sha256
from cliplit_photos.options import BatchOptions, Inference

if TYPE_CHECKING:
    from cliplit_photos.batch import Outcome
    from cliplit_photos.jobs import Plan

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
NAMES_SHOWN = 3  # photos named in a note


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


@takes(inference=fields_of(Inference), options=fields_of(BatchOptions))
def enhance(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Photos and folders of photos.")],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results; for one photo also a file.")
    ],
    inference: Inference,
    options: BatchOptions,
    checkpoint: Annotated[
        str, typer.Option(metavar="FILE", help="An enhancer: ours, the authors' or RAVE's. Default: the shipped one.")
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    max_memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory for computing, e.g. 500M; the photos come on top.")
    ] = "1G",
    recursive: Annotated[bool, flag("--recursive", "Include subfolders, and keep their layout.")] = False,
    preview: Annotated[bool, flag("--preview", "Predict the illumination at a small size: quick, not exact.")] = False,
    preview_size: Annotated[int, typer.Option(min=1, metavar="PIXELS", help="Longer side for --preview.")] = 512,
    report: Annotated[bool, flag("--report", "Write OUT/report.html too, with before/after sliders.")] = False,
) -> None:
    """Enhance photos of any size.

    Every result keeps the size, depth, metadata and colour profile of its photo, and its format unless OUT is a file with
    another ending. Photos are never changed. Run an interrupted command again to resume it. Bad photos are listed at the
    end (exit code 2; 1 for a bug of cliplit). `torchrun` and `accelerate launch` split the photos among their processes.
    """
    from cliplit_photos.jobs import plan_jobs

    memory = parse_size(max_memory)
    if not all([*inputs, out]):  # `Path` takes an empty text for the working directory
        raise CliplitError("'': an argument is empty; give a file or a folder")
    if out == "-":
        raise CliplitError("-o -: results cannot go to standard output; give a file or a folder")
    place = Path(out)
    plan = plan_jobs(list(map(Path, inputs)), out, recursive)
    to_one_file = [job.target for job in plan.jobs] == [place]
    page = place / "report.html" if report else None
    if page and to_one_file:
        raise CliplitError("--report needs a folder as OUT")

    from cliplit.engine.compute import find_device, usable_precision
    from cliplit.method.checkpoints import load_enhancer
    from cliplit_photos.batch import Outcome, enhance_files
    from cliplit_photos.inference import SHIPPED_ENHANCER
    from cliplit_photos.ledger import Ledger
    from cliplit_photos.page import report_page

    computer = find_device(device)
    inference = replace(inference, max_memory=memory, preview=preview_size if preview else 0)
    usable = usable_precision(inference.precision, computer)
    inference = replace(inference, precision=usable)  # the ledger records the precision used
    jobs = options.jobs if computer.type == "cpu" else 1
    options = replace(options, jobs=jobs, progress=processes.is_main())
    file = Path(checkpoint or SHIPPED_ENHANCER)
    if not checkpoint and not file.is_file():
        raise CliplitError(f"{file}: the default enhancer is missing; give one with --checkpoint")
    network = load_enhancer(file)
    fixed = network.architecture["longer_side"]
    if inference.preview and fixed:
        inference = replace(inference, preview=0)
    if processes.is_main():
        if preview and fixed:
            _say(f"--preview has no effect: {file.name} always predicts the illumination at {fixed} pixels")
        origin = "" if checkpoint else " (the default; --checkpoint chooses another)"
        _say(f"enhancer {file}{origin}, on {computer}")
    settings: dict[str, Any] = {"version": cliplit.__version__, "checkpoint": sha256(file)}  # all that affects a result
    settings |= {"precision": usable, "strength": inference.strength, "preview": inference.preview}
    settings |= {"illumination": options.save_illumination, "compare": options.compare, "quality": options.quality}
    ledger = Ledger(place, settings, plan.inputs, processes.index(), single=to_one_file)
    if page and (refusal := ledger.refusal(page, overwrite=True)):
        raise CliplitError(refusal)
    with _interruptible():
        mine = enhance_files(
            plan.jobs[processes.index() :: processes.count()], network.to(computer), inference, options, ledger
        )
        outcome = Outcome(problems=list(plan.problems))
        for part in processes.gather(mine):
            outcome += part
        if processes.is_main():
            _tell(outcome, plan)
            if page:
                done = {*outcome.made, *outcome.before}
                shown = {"checkpoint": file.name, "strength": inference.strength, "precision": inference.precision}
                if inference.preview:
                    shown["preview"] = f"{inference.preview} pixels"
                problems = outcome.bugs + outcome.problems
                html = report_page([job for job in plan.jobs if job.name in done], problems, shown)
                with ledger.writing(page, overwrite=True) as temporary:
                    temporary.write_bytes(html.encode(errors="backslashreplace"))  # odd names of files
                _say(f"report: {page}")
            print(printable(out))
        processes.wait()  # a launcher ends all processes if one fails
    if outcome.bugs:
        raise typer.Exit(1)
    if outcome.problems:
        raise typer.Exit(2)


def parse_size(text: str) -> int:
    """Bytes of a number, with or without K, M or G.

    Raises:
        CliplitError: the text is anything else.
    """
    unit = text[-1:].upper()
    number = text[:-1] if unit in UNITS else text
    try:
        size = int(float(number) * UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise CliplitError(f"--max-memory {text}: expected a number of bytes such as 500M or 2G")
    return size


@contextmanager
def _interruptible() -> Iterator[None]:
    """End at once on Ctrl-C and SIGTERM: nothing else would stop the threads that compute tiles."""

    def terminate(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print(file=sys.stderr)  # after the bar
        _say("cliplit: interrupted; run the same command again to resume")
        sys.stderr.flush()
        os._exit(143 if isinstance(interrupt, Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(outcome: "Outcome", plan: "Plan") -> None:
    made = len(outcome.made)
    before = len(outcome.before)
    problems = len(outcome.problems) + len(outcome.bugs)
    for note, names in outcome.notes.items():
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        _say(f"{note}: {', '.join(names[:NAMES_SHOWN])}{more}")
    if problems:
        _say(f"not enhanced: {problems}")
    for line in outcome.bugs + outcome.problems:
        _say(f"  {line}")
    summary = joined(
        f"{counted(made, 'photo')} enhanced",
        f"{before} {'was' if before == 1 else 'were'} already done" if before else None,
        counted(problems, "problem") if problems else None,
        f"{counted(plan.results, 'result')} of earlier calls ignored" if plan.results else None,
        f"{counted(plan.others, 'other file')} ignored" if plan.others else None,
        not_looked_into(plan.passed),
    )
    _say(summary)


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)
