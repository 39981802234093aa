"""Try randomly changed photo files. Each must give a result, or be refused with one line.

    python data_scripts/fuzz_photos.py --inputs 20000 --seed 0 [--output fuzz]
    python data_scripts/fuzz_photos.py --try FILE          # one of the files found, with its traceback

The photo files of the tests are changed at random (`mutations.py`). Each is read, enhanced, written and read again, as
`enhance` and `score` do, in a process that may crash or hang (`fuzz_workers.py`). Everything that is neither a result
nor a refusal is a fault: another error, too much time or memory, leftover files. Lines that libraries write to stderr
are counted too. The same seed tries the same files. Run the same command again to resume it.
"""

import argparse
import json
import queue
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_workers import FINE, REFUSED, RESULT, Fault, Trial, Worker
from mutations import mutated
from tqdm import tqdm

from cliplit.errors import CliplitError
from cliplit.files.atomic import write_text, writing
from cliplit.files.images import UNREAD, decode, errors_named, size_in
from cliplit_photos.batch import is_bug, place_of
from cliplit_photos.formats import FORMATS, photo_size, read_photo, write_photo

SUPPORT = Path(__file__).parent.parent / "tests" / "support"  # folder of the photo files
MOST_PIXELS = 1 << 21  # largest photos; they are so small that much memory is a fault
READ_OTHERWISE = UNREAD.keys() | {
    ".tif"
}  # read by `enhance` only, or by another library than in `score`, so results may differ
WITH_NETWORK = 10  # one file in so many is enhanced by the network; the others are only read and written

Line = dict[str, Any]  # a line of the log: number and name of a file, outcome, messages


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--inputs", type=int, default=20000, help="how many files")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--output", type=Path, default=Path("fuzz"), help="folder of the log and of what is found")
    options.add_argument("--at-a-time", type=int, default=2, help="processes")
    options.add_argument("--try", type=Path, dest="file", help="try this file alone, here")
    given = options.parse_args()
    if given.file:
        with tempfile.TemporaryDirectory() as temporary:
            print(try_photo(Path(shutil.copy(given.file, temporary)), with_network=True))
        return
    folder = given.output / str(given.seed)
    lines = fuzz(range(given.inputs), given.seed, folder, Trial(try_photo, prepare), given.at_a_time)
    report = summary(lines)
    write_text(report, folder / "report.md")
    print(report)
    sys.exit(any(line["outcome"] not in FINE for line in lines))


def try_photo(path: Path, with_network: bool) -> str:
    """Read a file as `score` and `enhance` do, and write its result.

    Args:
        path: a file in a folder of its own, where the folder `results` is created.
    Returns:
        RESULT or REFUSED.
    Raises:
        Fault: the result is wrong.
        Exception: this is also a fault.
    """
    results = path.parent / "results"
    target = results / (path.name if path.suffix in FORMATS else f"{path.name}.png")
    seen = _size(path)
    try:
        (_enhance if with_network else _rewrite)(path, target)
    except CliplitError as error:
        _check_refusal(error, path)
        if list(results.glob("*")):
            raise Fault(f"{results.name} are there after an error") from None
        if seen and path.suffix not in READ_OTHERWISE:
            raise Fault(f"score reads it, enhance does not: {error}") from None
        return REFUSED
    if list(results.glob(".*")):
        raise Fault("a half-written file is left")
    if (seen and not _size(target)) or photo_size(target) != photo_size(path):
        raise Fault("the result has another size, or cannot be read")
    return RESULT


def prepare() -> None:
    """Import everything first, so that time and memory of imports count for no file."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "a.png"
        path.write_bytes(seeds()[".png"]["metadata_8.png"])
        try_photo(path, with_network=True)


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height as `score` reads the file; None if it is refused."""
    try:
        with errors_named(path), open(path, "rb") as file:
            size = size_in(file, MOST_PIXELS)
        height, width, _ = decode(path, MOST_PIXELS).shape
    except CliplitError as error:
        _check_refusal(error, path)
        return None
    if size != (width, height):
        raise Fault(f"of another size than its header says: {size}, ({width}, {height})")
    return size


def _check_refusal(error: CliplitError, path: Path) -> None:
    if error.__cause__ and is_bug(error.__cause__):
        raise Fault(f"a bug of cliplit: {type(error.__cause__).__name__} at {place_of(error.__cause__)}")
    if not str(error).isprintable():
        raise Fault(f"a refusal of several lines, or that cannot be printed: {str(error)!r}")
    if not str(error).startswith(str(path)):
        raise Fault(f"a refusal that does not start with the file: {error}")


def _rewrite(path: Path, target: Path) -> None:
    photo = read_photo(path, MOST_PIXELS)
    with writing(target) as temporary:
        write_photo(photo, temporary, FORMATS[target.suffix])


def _enhance(path: Path, target: Path) -> None:
    """Enhance with the function of the command, but with a quick network."""
    from cliplit_photos.batch import BatchOptions, enhance_files
    from cliplit_photos.jobs import Job

    options = BatchOptions(max_pixels=MOST_PIXELS, progress=False)
    outcome = enhance_files([Job(path.name, path, target)], _network(), options=options)
    if outcome.bugs:
        raise Fault(outcome.bugs[0])
    if outcome.problems:
        raise CliplitError(outcome.problems[0])


@cache
def _network() -> Any:
    import torch

    from cliplit.method.enhancer import Enhancer

    torch.set_num_threads(1)
    return Enhancer(width=8, downscale=4, max_illumination=1.5).initialize(1)


@cache
def seeds() -> dict[str, dict[str, bytes]]:
    """The files to change, by ending and name: all files that give a result unchanged."""
    sys.path.insert(0, str(SUPPORT))
    from field_files import CASES

    found: dict[str, dict[str, bytes]] = {}
    for name, case in CASES.items():
        content, right = case.make()
        if right.pixels is not None:
            found.setdefault(Path(name).suffix, {})[name] = content
    return found


def input_of(number: int, seed: int) -> tuple[str, bytes]:
    """Name and content of a changed file. All endings take turns."""
    random = np.random.default_rng([seed, number])
    endings = list(seeds())
    name, content = _one_of(endings[number % len(endings)], random)
    _, other = _one_of(endings[random.integers(len(endings))], random)
    return f"{number}-{name}", mutated(content, other, random)


def _one_of(ending: str, random: np.random.Generator) -> tuple[str, bytes]:
    files = list(seeds()[ending].items())
    return files[random.integers(len(files))]


def fuzz(numbers: Iterable[int], seed: int, folder: Path, trial: Trial, at_a_time: int = 1) -> list[Line]:
    """Try files by number, except those that an earlier call tried.

    Args:
        folder: here `outcomes.jsonl` is written, and below `found` every file with a fault or many messages.
    """
    (folder / "found").mkdir(parents=True, exist_ok=True)
    log = folder / "outcomes.jsonl"
    lines = [json.loads(text) for text in log.read_text().splitlines()] if log.exists() else []
    done = {line["number"] for line in lines}
    todo = [number for number in numbers if number not in done]
    workers: queue.Queue[Worker] = queue.Queue()
    for _ in range(at_a_time):
        workers.put(Worker(trial))

    def try_one(number: int) -> Line:
        name, content = input_of(number, seed)
        worker = workers.get()
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / name
            path.write_bytes(content)
            told = worker.try_file(path, with_network=number % WITH_NETWORK == 0)
        workers.put(worker)
        if told["outcome"] not in FINE or told["said"]:
            (folder / "found" / name).write_bytes(content)
        return {"number": number, "name": name, **told}

    with open(log, "a") as file, ThreadPoolExecutor(at_a_time) as pool:
        for line in tqdm(pool.map(try_one, todo), total=len(todo), unit="file"):
            lines.append(line)
            print(json.dumps(line), file=file, flush=True)
    while not workers.empty():
        workers.get().end()
    return lines


def summary(lines: list[Line]) -> str:
    """Markdown: a table by ending, then faults and messages, each with an example file."""
    rows = ["| files | tried | results | refused | found |", "| --- | --- | --- | --- | --- |"]
    endings = sorted({Path(line["name"]).suffix for line in lines})
    for ending in [*endings, ""]:
        outcomes = Counter(line["outcome"] for line in lines if line["name"].endswith(ending))
        counts = (outcomes.total(), outcomes[RESULT], outcomes[REFUSED])
        rows.append(
            f"| {ending or 'all'} | " + " | ".join(map(str, (*counts, counts[0] - counts[1] - counts[2]))) + " |"
        )
    found = [(line["outcome"], line["name"]) for line in lines if line["outcome"] not in FINE]
    said = [(text, line["name"]) for line in lines for text in line["said"]]
    return "\n".join([*rows, *_listed("Found", found), *_listed("Said on stderr", said)]) + "\n"


def _listed(title: str, found: list[tuple[str, str]]) -> list[str]:
    """Distinct values, the most frequent first, each with its first file."""
    first = dict(reversed(found))
    counts = Counter(what for what, _ in found)
    return [
        "",
        f"{title}: {len(found)}",
        "",
        *(f"* {n} times, {first[what]}: {what}" for what, n in counts.most_common()),
    ]


if __name__ == "__main__":
    main()
