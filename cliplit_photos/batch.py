"""Enhances many photo files: decoding, computing and encoding overlap, and an interrupted run resumes."""

import errno
import sys
import threading
import time
import traceback
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cliplit.errors import CliplitError, one_line, printable, reason_of
from cliplit.method.enhancer import Enhancer
from cliplit_photos.formats import MAX_PIXELS, jpeg_quality, photo_size, read_photo, reduced, write_photo
from cliplit_photos.inference import enhance_pixels
from cliplit_photos.jobs import Job
from cliplit_photos.ledger import File, Ledger, Mark, remove_half_written
from cliplit_photos.options import BatchOptions, Inference

AHEAD = 2  # photos that are decoded or encoded while others are computed
BYTES_PER_PIXEL = 12  # of a photo in work, with Pillow's own copy
LAST_WRITES = 0.2  # s; lets files of a few megapixels be written when the user interrupts
ILLUMINATION_ONE = 32768  # value of 1.0 in a saved illumination map
ILLUMINATION = "illumination.png"  # endings of files beside results
COMPARE = "compare.jpg"
COMPARE_GAP = 8  # pixels, between its halves
COMPARE_SIDE = 1600  # pixels, longer side of each half
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # when writing: other photos will fail too
BUGS = (AttributeError, NameError, TypeError, LookupError, AssertionError, NotImplementedError)
PACKAGES = ("cliplit", "cliplit_photos")  # ours


class OutputLostError(Exception):
    """Nothing more can be written. The text says which file failed, and why."""


@dataclass
class Outcome:
    """The outcome of photos, in their order: names that were made or already done, a line for each problem and each bug,
    and for each thing that could not be kept, the names of its photos."""

    made: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def __iadd__(self, other: "Outcome") -> "Outcome":
        self.made += other.made
        self.before += other.before
        self.problems += other.problems
        self.bugs += other.bugs
        for note, names in other.notes.items():
            self.notes.setdefault(note, []).extend(names)
        return self


def enhance_files(
    jobs: Sequence[Job],
    network: Enhancer,
    inference: Inference | None = None,
    options: BatchOptions | None = None,
    ledger: Ledger | None = None,
) -> Outcome:
    """Enhance photos, except those that are done according to the ledger.

    A photo that cannot be read, computed or written becomes a problem in the outcome, and a bug (`is_bug`) is listed there
    too. The other photos are still done.

    Args:
        inference: how to compute; by default exactly, in a gigabyte.
        ledger: tells what is done, and what may be overwritten; by default nothing, and nothing is recorded.
    Raises:
        CliplitError: the disk is full or read-only. Finished results stay, and the same call resumes.
        KeyboardInterrupt: finished results stay, too; photos in work are not written.
    """
    inference = inference or Inference()
    options = options or BatchOptions()
    options = replace(options, max_pixels=options.max_pixels or MAX_PIXELS)
    ledger = ledger or Ledger(None, {}, [job.source for job in jobs])
    outcome = Outcome()
    rest = []
    for job in jobs:
        try:
            if ledger.is_done(job.source, job.target):
                outcome.before.append(job.name)
            else:
                rest.append(job)
        except OSError as error:
            outcome.problems.append(f"{error.filename or job.source}: cannot be read ({reason_of(error)})")
    shared = replace(inference, max_memory=inference.max_memory // options.jobs)
    work = _Work(network, shared, options, ledger, Room(inference.max_memory // BYTES_PER_PIXEL))
    unusable = _unusable({job.target.parent for job in rest})
    todo = []
    for job in rest:
        reason = unusable.get(job.target.parent)
        if problem := f"{job.target}: cannot be written ({reason})" if reason else work.refusal(job):
            outcome.problems.append(problem)
        else:
            todo.append(job)
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // options.jobs))
    pool = ThreadPoolExecutor(options.jobs + AHEAD)
    hidden = None if options.progress else True  # None: shown on a terminal only
    try:
        futures = [pool.submit(work.do, job) for job in todo]
        for future in tqdm(as_completed(futures), "enhancing", len(todo), unit="photo", disable=hidden):
            future.result()
        pool.shutdown()
    except OutputLostError as lost:
        work.stop.set()
        pool.shutdown(cancel_futures=True)
        succeeded = [future for future in futures if not future.cancelled() and not future.exception()]
        done = len(outcome.before) + sum(len(future.result().made) for future in succeeded)
        again = "run the same command again to resume"
        raise CliplitError(f"{lost}; {done} of {len(jobs)} photos are done; {again}") from None
    except BaseException:
        work.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        time.sleep(LAST_WRITES)
        for folder in {job.target.parent for job in todo}:
            remove_half_written(folder, own=True)
        raise
    finally:
        torch.set_num_threads(threads)
    for future in futures:
        outcome += future.result()
    return outcome


def _unusable(folders: Collection[Path]) -> dict[Path, str]:
    """Make the folders of the results before hours of work, and return why some are not writable.

    Raises:
        CliplitError: none of them is writable, or the error affects all of them.
    """
    unusable = {}
    for folder in sorted(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                remove_half_written(folder, own=False)
        except OSError as error:
            unusable[folder] = reason = reason_of(error)
            if error.errno in HOPELESS or len(unusable) == len(folders):
                raise CliplitError(f"{folder}: cannot be written to ({reason}); choose another OUT") from None
    return unusable


class Room:
    """Pixels that may be in memory at a time. A larger photo must be alone."""

    def __init__(self, pixels: int):
        self._limit = pixels
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + pixels <= self._limit)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


@dataclass
class _Work:
    """State that the threads share. Only `jobs` of them compute at a time; the others decode and encode."""

    network: Enhancer
    inference: Inference
    options: BatchOptions
    ledger: Ledger
    room: Room
    stop: threading.Event = field(default_factory=threading.Event)
    printed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.computing = threading.Semaphore(self.options.jobs)

    def refusal(self, job: Job) -> str | None:
        """Why a photo must not be enhanced: its result, or a file beside it, would replace another file. Else None."""
        reasons = [self.ledger.refusal(job.target, self.options.overwrite)]
        if self.options.save_illumination:
            reasons.append(self.ledger.refusal(job.beside(ILLUMINATION), overwrite=True))
        if self.options.compare:
            reasons.append(self.ledger.refusal(job.beside(COMPARE), overwrite=True))
        return next(filter(None, reasons), None)

    def do(self, job: Job) -> Outcome:
        """Read, enhance and write one photo.

        Raises:
            OutputLostError: nothing more can be written.
        """
        try:
            self._go_on()
            if self._made_meanwhile(job):
                return Outcome(before=[job.name])
            with self.room.taken(_pixels(job.source, self.options.max_pixels)):
                notes = self._enhance(job)
        except OutputLostError:
            raise
        except CliplitError as error:
            if self._made_meanwhile(job):
                return Outcome(before=[job.name])
            cause = error.__cause__
            return _fault(job, cause) if cause and is_bug(cause) else Outcome(problems=[str(error)])
        except OSError as error:
            return Outcome(problems=[f"{job.source}: cannot be read ({reason_of(error)})"])
        except Exception as error:  # of any kind: it must not stop the other photos
            if is_bug(error):
                return _fault(job, error)
            return Outcome(problems=[f"{job.source}: cannot be enhanced ({reason_of(error)})"])
        return Outcome(made=[job.name], notes={note: [job.name] for note in notes})

    def _made_meanwhile(self, job: Job) -> bool:
        """Whether another call has made the same result since this one began."""
        if self.options.overwrite or not job.target.exists():
            return False
        self.ledger.reread()
        return self.ledger.is_done(job.source, job.target)

    def _enhance(self, job: Job) -> list[str]:
        """Enhance one photo. Returns what could not be kept."""
        mark = File(job.source).mark
        photo = read_photo(job.source, self.options.max_pixels)
        photo.notes = self._rest_of(photo.notes, job)
        if not File(job.source).fits(mark):
            raise CliplitError(f"{job.source}: changed while it was read; run the same command again")
        map_ = np.empty(photo.pixels.shape[:2], np.float32) if self.options.save_illumination else None
        before = reduced(photo.pixels, COMPARE_SIDE) if self.options.compare else None
        with self.computing:
            self._go_on()
            try:
                enhance_pixels(self.network, photo.pixels, self.inference, map_, out=photo.pixels)
            except CliplitError as error:  # its message does not name the file
                raise CliplitError(f"{job.source}: cannot be enhanced ({error})") from None
        if map_ is not None:
            map_ *= ILLUMINATION_ONE
            np.round(map_, out=map_)
            np.clip(map_, 0, 65535, out=map_)
            with self._writing(job.beside(ILLUMINATION)) as temporary:
                Image.fromarray(map_.astype(np.uint16)).save(temporary, "PNG")
        if before is not None:
            after = reduced(photo.pixels, COMPARE_SIDE)
            both = Image.new("RGB", (2 * after.width + COMPARE_GAP, after.height), "white")
            both.paste(before, (0, 0))
            both.paste(after, (after.width + COMPARE_GAP, 0))
            profile = photo.icc if photo.pixels.shape[2] == 3 else None  # a grey profile does not fit
            with self._writing(job.beside(COMPARE)) as temporary:
                both.save(temporary, "JPEG", quality=90, icc_profile=profile or None)
        if job.source.suffix.lower() == job.target.suffix.lower() and photo.kind != job.kind:
            photo.notes.append(f"content is {photo.kind}, written as {job.kind} to match the name")
        photo.options["quality"] = self.options.quality
        if photo.kind == job.kind == "JPEG" and not self.options.quality:
            photo.options["quality"] = jpeg_quality(job.source)
        with self._writing(job.target, mark) as temporary:
            try:
                notes = photo.notes + write_photo(photo, temporary, job.kind)
            except ValueError as error:
                raise CliplitError(f"{job.source}: cannot be written as {job.kind} ({one_line(error)})") from None
        return notes

    def _rest_of(self, notes: list[str], job: Job) -> list[str]:
        """The notes, without new ones, which are printed now: before the work. The others are printed at its end."""
        new = [note for note in notes if self.options.progress and note not in self.printed]
        self.printed.update(new)
        for note in new:
            tqdm.write(printable(f"{note}: {job.name}"), sys.stderr)
        return [note for note in notes if note not in new]

    @contextmanager
    def _writing(self, path: Path, photo: Mark | None = None) -> Iterator[Path]:
        """As the ledger's `writing`. An error that ends the run becomes OutputLostError, any other a CliplitError.

        Args:
            photo: the mark of the photo of a result. Files beside results have none, and always replace earlier ones.
        """
        self._go_on()
        try:
            with self.ledger.writing(path, self.options.overwrite or photo is None, photo) as temporary:
                yield temporary
                self._go_on()
        except OSError as error:
            if error.errno in HOPELESS:
                raise OutputLostError(f"{error.filename or path}: {error.strerror}") from None
            raise CliplitError(f"{path}: cannot be written ({reason_of(error)})") from None

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise CliplitError("interrupted")


def _fault(job: Job, error: BaseException) -> Outcome:
    """The outcome of a photo at which a bug of cliplit occurred."""
    what = f"{type(error).__name__} at {place_of(error)}: {one_line(error)}"
    return Outcome(bugs=[f"{job.source}: not enhanced because of a bug in cliplit; please report it ({what})"])


def _pixels(path: Path, max_pixels: int) -> int:
    try:
        width, height = photo_size(path, max_pixels)
        return width * height
    except Exception:  # reading says more about it
        return 0


def is_bug(error: BaseException) -> bool:
    """Whether an error is a bug of cliplit and not caused by its input.

    It is a bug if a line of cliplit itself raised it, and no input explains its type. Errors of libraries blame the file.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    package = frames[-1].f_globals.get("__name__", "").partition(".")[0] if frames else ""
    return package in PACKAGES and isinstance(error, BUGS)


def place_of(error: BaseException) -> str:
    """The place where an error was raised, as "module.py:12"."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
