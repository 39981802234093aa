"""A run of CLIP-LIT: a directory with settings and one folder per stage, and the plan that says which needs which."""

import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
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
from cliplit.method.guidance.registry import BUILT_IN, is_refined
from cliplit.method.schedule import alternation
from cliplit.profiles import profile as get_profile
from cliplit.settings import Settings, from_json, named_paths, parse_overrides, to_json

MANIFEST = "manifest.json"
CHECKOUT = Path(cliplit.__file__).parent.parent  # if cliplit runs from one
GUIDED = ("clip", "guidance", "engine")  # groups of settings that concern everything guided
PACKAGES = ("torch", "torchvision", "open_clip_torch", "pyiqa", "papermill", "numpy", "pillow", "scikit-image")

# By what a step learns, in round 0 and later: groups of settings that change the result, and the notebook that shows it.
STEPS: dict[tuple[str, int], tuple[tuple[str, ...], str]] = {
    ("warmup", 0): (("clip", "engine", "enhancement"), "02_enhancer_training"),
    ("prompts", 0): ((*GUIDED, "prompts"), "01_prompt_initialization"),
    ("enhancer", 0): ((*GUIDED, "enhancement"), "02_enhancer_training"),
    ("prompts", 1): ((*GUIDED, "refinement"), "03_rank_finetuning"),
    ("enhancer", 1): ((*GUIDED, "enhancement", "refinement"), "03_rank_finetuning"),
}


def plan(settings: Settings) -> dict[str, Stage]:
    """The stages of a run in order: data, the alternation of the paper, the control, and the evaluation of all networks."""
    steps = alternation(settings.refinement.rounds, is_refined(settings.guidance.kind))
    stages = [Stage("data", (), ("data", "backlight"), "00_setup_and_data")]
    stages += [Stage(step.name, step.needs, *STEPS[step.learns, min(step.round, 1)]) for step in steps]
    networks = [step.name for step in steps if step.learns != "prompts"]
    if settings.evaluation.control:
        groups = (*GUIDED, "prompts", "enhancement", "refinement")
        stages.append(Stage("control", ("data",), groups, "04_evaluation"))
        networks.append("control")
    stages.append(Stage("evaluation", tuple(networks), ("evaluation",), "04_evaluation"))
    return {stage.name: stage for stage in stages}


class Run(Stages):
    """A run directory with its settings.

    An empty path stands for runs/PROFILE in the checkout that cliplit runs from, or else in the working directory.
    """

    def __init__(self, path: str | Path, settings: Settings):
        base = CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
        super().__init__(path or base / "runs" / settings.profile, plan(settings))
        self.settings = settings

    @classmethod
    def start(cls, path: str | Path, settings: Settings) -> "Run":
        """Open a run directory, which is made if needed, and write settings and versions into its manifest.

        Raises CliplitError if it cannot be written, or holds other files than a run's (stages replace whole folders).
        """
        run = cls(path, settings)
        try:
            filled = run.path.is_dir() and any(run.path.iterdir())
            stages = {file.name for file in run.path.glob("*/*.json")} & {"stage.json", "building.json"}
            if filled and stored_settings(run.path) is None and not stages:  # a damaged manifest is written anew
                raise CliplitError(
                    f"{run.path}: this folder is neither empty nor a run (no {MANIFEST} of one); choose another one with --run"
                )
            processes.wait()  # until all have looked
            run.path.mkdir(parents=True, exist_ok=True)
            run.write_manifest()
        except OSError as error:
            raise CliplitError(f"{run.path}: cannot write a run there ({error.strerror or error})") from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open an existing run with the settings in its manifest. Raises CliplitError if there is no readable one."""
        settings = stored_settings(path)
        if settings is None:
            raise CliplitError(f"{path}: no run here (no readable {MANIFEST}); make one with `cliplit reproduce`")
        return cls(path, settings)

    def summary(self) -> str:
        """Path, profile, seed and versions in a few lines."""
        versions = ", ".join(f"{name} {found}" for name, found in _versions().items())
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
        command = ["git", f"--git-dir={CHECKOUT / '.git'}", "rev-parse", "--verify", "--quiet", "HEAD"]
        revision = None  # cliplit does not run from a checkout, or git is not installed
        with suppress(OSError):
            revision = subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
        manifest = {
            "cliplit": cliplit.__version__,
            "git": revision,
            "profile": self.settings.profile,
            "seed": self.settings.seed,
            "settings": to_json(self.settings),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": _versions(),
            "stages": stages,
        }
        write_json(manifest, self.path / MANIFEST)

    def inputs_of(self, stage: str) -> dict[str, Any]:
        """Version, seed, device, settings, and digests of the files that the stage reads."""
        every = to_json(self.settings)
        groups = {group: every[group] for group in self.plan[stage].settings}
        data, evaluation, clip = self.settings.data, self.settings.evaluation, self.settings.clip
        if stage == "data":
            folders = (data.backlit, data.well_lit, data.test_backlit, data.test_reference, *data.sets)
            groups["files"] = {folder: digest_of_folder(Path(folder)) for folder in folders if folder}
        if stage == "evaluation":
            others = named_paths(evaluation.checkpoints + evaluation.results)
            groups["files"] = {
                name: digest_of_folder(path) if path.is_dir() else digest_of(path) for name, path in others.items()
            }
        if "guidance" in groups and (kind := self.settings.guidance.kind) not in BUILT_IN:
            groups["guidance file"] = digest_of(Path(kind.rpartition(":")[0]))
        if "clip" in groups:
            groups["weights"] = {name: digest_of_weights(name) for name in (clip.similarity, clip.identity)}
        return {"version": cliplit.__version__, "seed": every["seed"], "device": every["device"]} | groups


def stored_settings(path: str | Path) -> Settings | None:
    """The settings in the manifest of a run; None if there is no manifest, or none that can be read.

    Raises CliplitError for settings that this version does not know.
    """
    file = Path(path) / MANIFEST
    manifest = read_json(file, settings=dict)
    if manifest is None:
        return None
    try:
        return from_json(manifest["settings"])
    except CliplitError as error:
        raise CliplitError(f"{file}: {error}; if another version made it, choose another run with --run") from None


def start_run(
    profile: Any = "demo", run: Any = "", seed: int = 0, overrides: Mapping[str, Any] | str | float | None = None
) -> Run:
    """The run of a notebook or command: a profile with overrides, in a run directory.

    Args:
        profile, run: texts; a number, as papermill takes "2024" for one, means its text.
        run: the directory; empty as for `Run`.
        overrides: by dotted name, as a dictionary or as "name=value name=value".
    Raises:
        CliplitError: unknown profile or setting, or a value of the wrong type.
    """
    changes = dict(overrides) if isinstance(overrides, Mapping) else parse_overrides(str(overrides or ""))
    settings = get_profile("" if profile is None else str(profile), {"seed": seed} | changes)
    return Run.start("" if run is None else str(run), settings)


def _versions() -> dict[str, str | None]:
    """Versions of the packages that results depend on; None for one that is not installed."""
    found: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
