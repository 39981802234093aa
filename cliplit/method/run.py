"""A run of CLIP-LIT: a directory with settings and one folder per stage, and the plan that says which needs which."""

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cliplit
from cliplit.data.manifest import digest_of_folder
from cliplit.engine import processes
from cliplit.engine.stages import Stage, Stages
from cliplit.errors import CliplitError
from cliplit.files.atomic import digest_of, read_json, write_json
from cliplit.method.clip_weights import digest_of_weights
from cliplit.method.guidance.registry import guidance_file, is_refined
from cliplit.method.schedule import Step, alternation
from cliplit.profiles import profile as get_profile
from cliplit.settings import Settings, from_json, named_paths, parse_overrides, to_json

MANIFEST = "manifest.json"
GUIDED = ("clip", "guidance", "engine")  # groups of settings that concern everything guided
Text = str | int | float | bool
PACKAGES = ("torch", "torchvision", "open_clip_torch", "pyiqa", "papermill", "numpy", "pillow", "scikit-image")


def plan(settings: Settings) -> dict[str, Stage]:
    """The stages of a run in order: data, the alternation of the paper, the control, and the evaluation of all networks."""
    steps = _alternation(settings)
    stages = [Stage("data", (), ("data", "backlight"), "00_setup_and_data"), *map(_stage, steps)]
    networks = [step.name for step in steps if step.learns != "prompts"]
    if settings.evaluation.control:
        groups = (*GUIDED, "prompts", "enhancement", "refinement")
        stages.append(Stage("control", ("data",), groups, "04_evaluation"))
        networks.append("control")
    stages.append(Stage("evaluation", tuple(networks), ("evaluation",), "04_evaluation"))
    return {stage.name: stage for stage in stages}


def _alternation(settings: Settings) -> list[Step]:
    return alternation(settings.refinement.rounds, is_refined(settings.guidance.kind))


def _stage(step: Step) -> Stage:
    """The stage of a step: which groups of settings change its result, and which notebook shows it."""
    match step:
        case Step("warmup"):
            return Stage(step.name, step.needs, ("clip", "engine", "enhancement"), "02_enhancer_training")
        case Step("prompts", 0):
            return Stage(step.name, step.needs, (*GUIDED, "prompts"), "01_prompt_initialization")
        case Step("enhancer", 0):
            return Stage(step.name, step.needs, (*GUIDED, "enhancement"), "02_enhancer_training")
        case Step("prompts"):
            return Stage(step.name, step.needs, (*GUIDED, "refinement"), "03_rank_finetuning")
    return Stage(step.name, step.needs, (*GUIDED, "enhancement", "refinement"), "03_rank_finetuning")


class Run(Stages):
    """A run directory with its settings."""

    def __init__(self, path: str | Path, settings: Settings):
        super().__init__(path, plan(settings))
        self.settings = settings
        self.alternation = _alternation(settings)

    @classmethod
    def start(cls, path: str | Path, settings: Settings) -> "Run":
        """Open a run directory, made if need be, and note settings and versions in its manifest.

        Raises:
            CliplitError: it cannot be written, or holds something else than a run (stages replace whole folders).
        """
        run = cls(path, settings)
        try:
            if run.path.is_dir() and any(run.path.iterdir()) and not _is_run(run.path):
                raise CliplitError(
                    f"{path}: this folder is neither empty nor a run (no {MANIFEST} of one); choose another one with --run"
                )
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
        settings = stored_settings(path)
        if settings is None:
            raise CliplitError(f"{path}: no run here (no readable {MANIFEST}); make one with `cliplit reproduce`")
        return cls(path, settings)

    def summary(self) -> str:
        """Path, profile, seed and versions in a few lines."""
        versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
        return (
            f"run {self.path}, profile {self.settings.profile}, seed {self.settings.seed}\n"
            f"cliplit {cliplit.__version__}, Python {platform.python_version()}, {versions}"
        )

    def write_manifest(self) -> None:
        """Write manifest.json: settings, seed, versions, and seconds and SHA-256 of every finished stage."""
        if not processes.is_main():
            return
        stages = {}
        for name in self.current():
            record = self.record(name) or {}
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
        write_json(manifest, self.path / MANIFEST)

    def inputs_of(self, stage: str) -> dict[str, Any]:
        """Version, seed, device, settings, and digests of the files that the stage reads."""
        every = to_json(self.settings)
        groups = {group: every[group] for group in self.plan[stage].settings}
        if stage == "data":
            data = self.settings.data
            folders = (data.backlit, data.well_lit, data.test_backlit, data.test_reference, *data.sets)
            groups["files"] = {folder: digest_of_folder(Path(folder)) for folder in folders if folder}
        if stage == "evaluation":
            others = named_paths(self.settings.evaluation.checkpoints + self.settings.evaluation.results)
            groups["files"] = {
                name: digest_of_folder(path) if path.is_dir() else digest_of(path) for name, path in others.items()
            }
        if "guidance" in groups and (own := guidance_file(every["guidance"]["kind"])):
            groups["guidance file"] = digest_of(own)
        if "clip" in groups:
            groups["weights"] = {
                name: digest_of_weights(name) for name in (every["clip"]["similarity"], every["clip"]["identity"])
            }
        return {"version": cliplit.__version__, "seed": every["seed"], "device": every["device"]} | groups


def stored_settings(path: str | Path) -> Settings | None:
    """The settings in the manifest of a run; None if there is no manifest, or none that can be read.

    Raises:
        CliplitError: settings that this version does not know.
    """
    file = Path(path) / MANIFEST
    manifest = read_json(file, settings=dict)
    if manifest is None:
        return None
    try:
        return from_json(manifest["settings"])
    except CliplitError as error:
        raise CliplitError(f"{file}: {error}; if another version made it, choose another run with --run") from None


def _is_run(path: Path) -> bool:
    """Whether a folder has the manifest of a run, or where that is damaged a stage of one."""
    return stored_settings(path) is not None or any(path.glob("*/stage.json")) or any(path.glob("*/building.json"))


def start_run(
    profile: Text = "demo",
    run: Text | Path | None = "",
    seed: int = 0,
    overrides: Mapping[str, Any] | Text | None = None,
) -> Run:
    """The run of a notebook or command: a profile with overrides, in a run directory.

    Args:
        run: the directory; empty for runs/<profile> of the checkout, or of the working directory.
        profile, run: texts; a number, as papermill takes "2024" for one, means its text.
        overrides: by dotted name, as a dictionary or as "name=value name=value".
    Raises:
        CliplitError: unknown profile or setting, or a value of the wrong type.
    """
    changes = dict(overrides) if isinstance(overrides, Mapping) else parse_overrides(_text(overrides))
    settings = get_profile(_text(profile), {"seed": seed} | changes)
    return Run.start(_text(run) or default_run_path(settings.profile), settings)


def _text(value: Text | Path | None) -> str:
    return "" if value is None else str(value)


def default_run_path(profile: str) -> Path:
    """runs/<profile> of the checkout that cliplit runs from, else of the working directory."""
    checkout = Path(cliplit.__file__).parent.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "runs" / profile


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that cliplit runs from, if it is one."""
    checkout = Path(cliplit.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()
