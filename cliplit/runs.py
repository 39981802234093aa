"""A run: a directory with one folder per stage, and the plan that says which stage needs which.

A stage is current while its settings and the builds of the stages it needs are those it was made from, as in
make; anything else is built again. A half-built stage keeps its progress and goes on.
"""

import hashlib
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cliplit
from cliplit import processes
from cliplit.errors import CliplitError
from cliplit.files.atomic import digest_of, read_json, sha256, write_json
from cliplit.guidance import guidance_file, is_refined
from cliplit.profiles import profile as get_profile
from cliplit.schedule import ranked_rounds
from cliplit.settings import Settings, from_json, named_paths, parse_overrides, to_json

TINY = Path(cliplit.__file__).parent / "models" / "tiny_clip.safetensors"  # the embedded CLIP
PACKAGES = ("torch", "torchvision", "open_clip_torch", "pyiqa", "papermill", "numpy", "pillow", "scikit-image")


@dataclass(frozen=True)
class Stage:
    """One step of the method: what it needs, which settings it depends on, which notebook runs it."""

    name: str
    needs: tuple[str, ...]
    settings: tuple[str, ...]
    notebook: str


def plan(settings: Settings) -> dict[str, Stage]:
    """The stages of a run in order: the alternation of the paper.

    prompts0 and warmup, then enhancer0; in every round k, prompts<k> are refined on the results of the
    networks so far and enhancer<k> is tuned with them. A guidance that is not refined stays prompts0.
    """
    guided, refined = ("clip", "guidance", "engine"), is_refined(settings.guidance.kind)
    stages = [
        Stage("data", (), ("data", "backlight"), "00_setup_and_data"),
        Stage("prompts0", ("data",), (*guided, "prompts"), "01_prompt_initialization"),
        Stage("warmup", ("data",), ("clip", "engine", "enhancement"), "02_enhancer_training"),
        Stage("enhancer0", ("prompts0", "warmup"), (*guided, "enhancement"), "02_enhancer_training"),
    ]
    for k in range(1, settings.refinement.rounds + 1):
        guide = f"prompts{k}" if refined else "prompts0"
        if refined:
            results = tuple(f"enhancer{j}" for j in ranked_rounds(k))
            needs = (f"prompts{k - 1}", *results)
            stages.append(Stage(guide, needs, (*guided, "refinement"), "03_rank_finetuning"))
        tuned = (guide, f"enhancer{k - 1}")
        stages.append(Stage(f"enhancer{k}", tuned, (*guided, "enhancement", "refinement"), "03_rank_finetuning"))
    trained = tuple(stage.name for stage in stages if stage.name.startswith(("warmup", "enhancer")))
    if settings.evaluation.control:
        groups = (*guided, "prompts", "enhancement", "refinement")
        stages.append(Stage("control", ("data",), groups, "04_evaluation"))
        trained += ("control",)
    stages.append(Stage("evaluation", trained, ("evaluation",), "04_evaluation"))
    return {stage.name: stage for stage in stages}


class Run:
    """A run directory with its settings."""

    def __init__(self, path: str | Path, settings: Settings):
        self.path, self.settings = Path(path), settings
        self.plan = plan(settings)

    @classmethod
    def start(cls, path: str | Path, settings: Settings) -> "Run":
        """Open a run directory, made if need be, and note settings and versions in its manifest.

        Raises:
            CliplitError: it cannot be written, or holds something else than a run (stages replace whole folders).
        """
        run = cls(path, settings)
        try:
            if run.path.is_dir() and any(run.path.iterdir()) and not read_json(run.path / "manifest.json"):
                raise CliplitError(f"{path}: this folder is neither empty nor a run; choose another one with --run")
            processes.wait()  # until all have looked
            run.path.mkdir(parents=True, exist_ok=True)
            run.write_manifest()
        except OSError as error:
            raise CliplitError(f"{path}: cannot write a run there ({error.strerror or error})") from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open an existing run with the settings in its manifest.

        Raises:
            CliplitError: no run there, or a manifest that cannot be read.
        """
        manifest = read_json(Path(path) / "manifest.json")
        if not manifest or "settings" not in manifest:
            raise CliplitError(f"{path}: no run here (no readable manifest.json); make one with `cliplit reproduce`")
        return cls(path, from_json(manifest["settings"]))

    def summary(self) -> str:
        """Path, profile, seed and versions in a few lines."""
        versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
        return (
            f"run {self.path}, profile {self.settings.profile}, seed {self.settings.seed}\n"
            f"cliplit {cliplit.__version__}, Python {platform.python_version()}, {versions}"
        )

    def folder(self, stage: str) -> Path:
        """Folder of a finished stage.

        Raises:
            CliplitError: the stage has not been built, or is out of date.
        """
        if not self.is_current(stage):
            notebook = self.plan[stage].notebook
            raise CliplitError(f"{self.path}: stage '{stage}' is missing or out of date; run {notebook} first")
        return self.path / stage

    def is_current(self, stage: str) -> bool:
        """Whether the stage's outputs are there, and made from these settings and these builds of what it needs."""
        return stage in self.current()

    def current(self) -> list[str]:
        """Names of the stages that are current, in the order of the plan, where each comes after what it needs."""
        found: list[str] = []
        for stage in self.plan.values():
            if all(need in found for need in stage.needs) and self.fits(stage.name, self.path / stage.name):
                found.append(stage.name)
        return found

    def fits(self, stage: str, folder: Path) -> bool:
        """Whether a folder has the stage's outputs, made from these settings and these builds of what it needs."""
        record = read_json(folder / "stage.json")
        return bool(
            record
            and record["settings"] == self._settings_of(stage)
            and record["needs"] == {need: self._build(need) for need in self.plan[stage].needs}
            and all(_size(folder / name) == size for name, (size, _) in record["outputs"].items())
        )

    def build(self, stage: str, make: Callable[[Path], None], together: bool = False) -> Path:
        """Folder of a stage, made by `make(folder)` unless it is current.

        `make` may find the progress of an interrupted attempt with the same inputs in the folder.

        Args:
            together: all processes of `accelerate launch` call `make`, not only the main one.
        Raises:
            CliplitError: a stage that it needs is not current, or another process is at work in this run.
        """
        folder = self.path / stage
        if self.is_current(stage):
            return folder
        for need in self.plan[stage].needs:
            self.folder(need)
        processes.wait()  # until all have looked
        with self._alone():
            if processes.is_main():
                self._begin(stage)
            processes.wait()
            began = time.monotonic()
            if together or processes.is_main():
                make(folder)
            processes.wait()
            if processes.is_main():
                self._end(stage, time.monotonic() - began)
        processes.wait()
        return folder

    def _alone(self) -> AbstractContextManager:
        from cliplit.locks import held

        return held(self.path) if processes.is_main() else nullcontext()

    def _begin(self, stage: str) -> None:
        """An empty folder, unless a former attempt had the same inputs."""
        folder, inputs = self.path / stage, self._inputs(stage)
        if read_json(folder / "building.json") != inputs:
            for left in (folder, self.path / "watch" / stage):
                shutil.rmtree(left, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(inputs, folder / "building.json")

    def _end(self, stage: str, seconds: float) -> None:
        """The record of a finished stage."""
        folder = self.path / stage
        inputs = read_json(folder / "building.json")
        (folder / "building.json").unlink()
        outputs = {
            str(path.relative_to(folder)): (path.stat().st_size, sha256(path))
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not _serves_watching(path.relative_to(folder))
        }
        record = {"build": uuid.uuid4().hex, "seconds": round(seconds, 1), "processes": processes.count()} | inputs
        write_json(record | {"outputs": outputs}, folder / "stage.json")
        self.write_manifest()

    def _inputs(self, stage: str) -> dict[str, Any]:
        needs = {need: self._build(need) for need in self.plan[stage].needs}
        return {"settings": self._settings_of(stage), "needs": needs}

    def write_manifest(self) -> None:
        """Write manifest.json: settings, seed, versions, and seconds and SHA-256 of every finished stage."""
        if not processes.is_main():
            return
        stages = {}
        for name in self.current():
            record = read_json(self.path / name / "stage.json")
            hashes = {file: digest for file, (_, digest) in record["outputs"].items()}
            stages[name] = {"seconds": record["seconds"], "sha256": hashes}
        manifest = {
            "cliplit": cliplit.__version__,
            "git": _git_revision(),
            "profile": self.settings.profile,
            "seed": self.settings.seed,
            "settings": to_json(self.settings),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in PACKAGES},
            "stages": stages,
        }
        write_json(manifest, self.path / "manifest.json")

    def _settings_of(self, stage: str) -> dict[str, Any]:
        every = to_json(self.settings)
        groups = {group: every[group] for group in self.plan[stage].settings}
        if stage == "data":
            data = self.settings.data
            folders = (data.backlit, data.well_lit, data.test_backlit, data.test_reference, *data.sets)
            groups["files"] = {folder: _listing(Path(folder)) for folder in folders if folder}
        if stage == "evaluation":
            others = named_paths(self.settings.evaluation.checkpoints + self.settings.evaluation.results)
            groups["files"] = {
                name: _listing(path) if path.is_dir() else digest_of(path) for name, path in others.items()
            }
        if "guidance" in groups and (own := guidance_file(every["guidance"]["kind"])):
            groups["guidance file"] = digest_of(own)
        if "clip" in groups:
            groups["weights"] = {
                name: _weights(name) for name in (every["clip"]["similarity"], every["clip"]["identity"])
            }
        return {"version": cliplit.__version__, "seed": every["seed"], "device": every["device"]} | groups

    def _build(self, stage: str) -> str | None:
        record = read_json(self.path / stage / "stage.json")
        return record and record["build"]


def start_run(
    profile: str = "demo", run: str | Path = "", seed: int = 0, overrides: Mapping[str, Any] | str | None = None
) -> Run:
    """The run of a notebook or command: a profile with overrides, in a run directory.

    Args:
        run: the directory; empty for runs/<profile> of the checkout, or of the working directory.
        overrides: by dotted name, as a dictionary or as "name=value name=value".
    Raises:
        CliplitError: unknown profile or setting, or a value of the wrong type.
    """
    changes = parse_overrides(overrides) if isinstance(overrides, str) else dict(overrides or {})
    settings = get_profile(profile, {"seed": seed} | changes)
    return Run.start(run or default_path(profile), settings)


def default_path(profile: str) -> Path:
    """runs/<profile> of the checkout that cliplit runs from, else of the working directory."""
    checkout = Path(cliplit.__file__).parent.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "runs" / profile


def _serves_watching(path: Path) -> bool:
    """Whether a file of a run within a stage (`control`) may change or go without harm."""
    return any(part == "watch" or part.startswith(".") for part in path.parts)


def _listing(folder: Path) -> str | None:
    """A digest of names, sizes and times of change of the files in a folder, or of those that a data set lists."""
    from cliplit.data.manifest import has_manifest, listed_files

    if not folder.is_dir():
        return None
    paths = [path for path in listed_files(folder) if path.is_file()] if has_manifest(folder) else folder.iterdir()
    files = sorted((str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return hashlib.sha256(repr(files).encode()).hexdigest()


def _weights(clip: str) -> str | None:
    """A digest of the weights of a CLIP that is a local file: of its content, if it is small."""
    files = (TINY if clip == "tiny" else Path(clip), Path(clip.partition("/")[2]))
    path = next((file for file in files if file.is_file()), None)
    return path and digest_of(path)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that cliplit runs from, if it is one."""
    git = Path(cliplit.__file__).parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return (git / head[5:]).read_text().strip() if head.startswith("ref: ") else head
    except OSError:
        return None
