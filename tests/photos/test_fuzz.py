"""Files changed at random give a result or a refusal in one line; and what tries them sees faults of every kind."""

import os
import signal
import time
from pathlib import Path

import fuzz_photos
import pytest
from fuzz_photos import fuzz, input_of, prepare, seeds, summary, try_photo
from fuzz_workers import FINE, REFUSED, RESULT, Fault, Trial
from mutations import with_right_sums

from cliplit.errors import CliplitError

INPUTS = 600


def test_files_changed_at_random(tmp_path):
    lines = fuzz(range(INPUTS), 0, tmp_path, Trial(try_photo, prepare))
    assert [line for line in lines if line["outcome"] not in FINE] == []
    outcomes = [line["outcome"] for line in lines]
    assert outcomes.count(RESULT) > INPUTS / 10 < outcomes.count(REFUSED)  # neither too much nor too little is changed


def faulty(path: Path, with_network: bool) -> str:
    """What a reader could do with files 0 to 6."""
    number = int(path.name.partition("-")[0])
    if number == 0:
        return RESULT
    if number == 1:
        raise KeyError(f"of 0x1f in {path}")
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 3:
        time.sleep(60)
    if number == 4:
        return RESULT if b"1" * (400 << 20) else REFUSED
    if number == 5:
        os.write(2, f"libphoto: line 17 of {path} is odd\n".encode())
        return REFUSED
    raise Fault("half-written")


EXPECTED = [
    RESULT,
    "KeyError",
    "the process ended with -11",
    "more than 2 s",
    "more than 300 MB",
    REFUSED,
    "half-written",
]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_every_kind_of_fault_is_found_and_the_rest_tried(tmp_path):
    trial = Trial(faulty, seconds=2)
    lines = fuzz(range(7), 1, tmp_path, trial)
    starts = [line["outcome"][: len(start)] for line, start in zip(lines, EXPECTED, strict=True)]
    assert starts == EXPECTED
    assert lines[1]["outcome"].startswith("KeyError: 'of N in FILE', at test_fuzz.py:")
    assert [line["said"] for line in lines if line["said"]] == [["libphoto: line N of FILE is odd"]]
    kept = {path.name: path.read_bytes() for path in (tmp_path / "found").iterdir()}
    assert kept == dict(input_of(number, 1) for number in range(1, 7))
    log = (tmp_path / "outcomes.jsonl").read_text()
    assert fuzz(range(7), 1, tmp_path, trial) == lines  # and nothing is tried again
    assert (tmp_path / "outcomes.jsonl").read_text() == log
    report = summary(lines)
    assert "| all | 7 | 1 | 1 | 5 |" in report and "* 1 times, " in report and "libphoto" in report


def test_a_refusal_is_one_line_that_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "1-a.jpg"
    path.write_bytes(b"no picture")
    assert try_photo(path, with_network=False) == try_photo(path, with_network=True) == REFUSED
    path.write_bytes(seeds()[".jpg"]["grey.jpg"])
    for change, fault in {
        "a result": lambda path, target: target.write_bytes(b"no picture"),
        "half-written": lambda path, target: (target.parent / ".a.partial").write_bytes(b""),
        "several lines": lambda path, target: refuse(f"{path}: one\ntwo"),
        "start with the file": lambda path, target: refuse("a file is bad"),
        "score reads it": lambda path, target: refuse(f"{path}: bad"),
    }.items():
        monkeypatch.setattr(fuzz_photos, "_rewrite", fault)
        (tmp_path / "results").mkdir(exist_ok=True)
        with pytest.raises(Fault, match=change.replace("a result", "the result")):
            try_photo(path, with_network=False)
        for left in (tmp_path / "results").iterdir():
            left.unlink()


def refuse(text: str) -> None:
    raise CliplitError(text)


def test_the_same_numbers_give_the_same_files():
    files = [input_of(number, 3) for number in range(300)]
    assert files == [input_of(number, 3) for number in range(300)]
    assert {Path(name).suffix for name, _ in files} == set(seeds())
    known = {content for files in seeds().values() for content in files.values()}
    assert sum(content in known for _, content in files) < 15  # nearly all are changed
    png = seeds()[".png"]["metadata_8.png"]
    assert with_right_sums(png[:40] + b"\0" + png[41:]) != png[:40] + b"\0" + png[41:] and with_right_sums(png) == png
