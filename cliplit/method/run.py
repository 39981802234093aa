"""A run of CLIP-LIT: a directory with settings and a folder for each stage. `plan` lists stages and what they need."""

import platform
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cliplit
from cliplit.engine import processes
from cliplit.engine.stages import NEW, Stage, Stages, held
from cliplit.errors import CliplitError, shortened
from cliplit.files.atomic import digest_of, read_json, write_json
from cliplit.method.clip_weights import digest_of_weights
from cliplit.method.guidance.registry import BUILT_IN, is_refined
from cliplit.method.schedule import alternation
from cliplit.profiles import profile as get_profile
from cliplit.settings import Settings, from_json, override, parse_overrides, to_json
from cliplit.values import check_values, differing, placed

MANIFEST = "manifest.json"
CHECKOUT = Path(cliplit.__file__).parent.parent  # the checkout, if cliplit runs from one
GUIDED = ("clip", "guidance", "engine")  # groups of settings of all stages with a guidance
PACKAGES = ("torch", "torchvision", "open_clip_torch", "pyiqa", "papermill", "numpy", "pillow", "scikit-image")
VERSIONS = {package: version(package) for package in PACKAGES}

# By what a step learns, in round 0 or later: the groups of settings that change its result, and its notebook.
STEPS: dict[tuple[str, int], tuple[tuple[str, ...], str]] = {
    ("warmup", 0): (("clip", "engine", "enhancement"), "02_enhancer_training"),
    ("prompts", 0): ((*GUIDED, "prompts"), "01_prompt_initialization"),
    ("enhancer", 0): ((*GUIDED, "enhancement"), "02_enhancer_training"),
    ("prompts", 1): ((*GUIDED, "refinement"), "03_rank_finetuning"),
    ("enhancer", 1): ((*GUIDED, "enhancement", "refinement"), "03_rank_finetuning"),
}


# By row of the tables: the stage, named like the setting that asks for it, and the settings that differ.
CONTROLS: dict[str, tuple[str, dict[str, Any]]] = {
    "random-clip": ("control", {"clip.random": True}),
    "longer": ("longer", {"refinement.iterations": 0}),
}


def controls(settings: Settings) -> dict[str, str]:
    """The stages of the controls that the settings ask for, by row. `longer` needs rounds with refinement."""
    refined = settings.refinement.rounds > 0 and is_refined(settings.guidance.kind)
    asked = {"control": settings.evaluation.control, "longer": settings.evaluation.longer and refined}
    return {name: stage for name, (stage, _) in CONTROLS.items() if asked[stage]}


def plan(settings: Settings) -> dict[str, Stage]:
    """The stages of a run in order: data, the paper's alternation, the controls, and the evaluation of all networks."""
    steps = alternation(settings.refinement.rounds, is_refined(settings.guidance.kind))
    stages = [Stage("data", (), ("data", "backlight"), "00_setup_and_data")]
    stages += [Stage(step.name, step.needs, *STEPS[step.learns, min(step.round, 1)]) for step in steps]
    networks = [step.name for step in steps if step.learns != "prompts"]
    groups = (*GUIDED, "prompts", "enhancement", "refinement")
    for stage in controls(settings).values():
        stages.append(Stage(stage, ("data" if stage == "control" else "enhancer0",), groups, "04_evaluation"))
        networks.append(stage)
    stages.append(Stage("evaluation", tuple(networks), ("evaluation",), "04_evaluation"))
    return {stage.name: stage for stage in stages}


class Run(Stages):
    """A run directory with its settings.

    An empty path means runs/PROFILE in the checkout that cliplit runs from, or else in the working directory.
    """

    def __init__(self, path: str | Path, settings: Settings):
        base = CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
        super().__init__(path or base / "runs" / settings.profile, plan(settings))
        self.settings = settings

    @classmethod
    def start(cls, path: str | Path, settings: Settings, rebuild: bool = False) -> "Run":
        """A run to work in. Its directory is created if needed. Arguments and errors as in `begin`."""
        return cls(path, settings).begin(rebuild)

    def adopt_from(self, others: Iterable[Path]) -> None:
        """Take over finished stages of other runs that have the same settings and inputs."""
        runs = [path for path in others if path != self.path and (path / MANIFEST).is_file()]
        with held(self.path):
            for stage in self.plan:
                if self.record(stage):
                    continue
                source = next((path / stage for path in runs if self.is_current(stage, path / stage)), None)
                if source is None:
                    break
                self.adopt(stage, source)
            self.settle()

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """A run to read from, made by any version. Raises CliplitError if it has no readable manifest."""
        settings = stored_settings(path, strict=False)
        if settings is None:
            raise CliplitError(f"{path}: no run here (no readable {MANIFEST}); make one with `cliplit reproduce`")
        return cls(path, settings)

    def check(self, rebuild: bool = False) -> None:
        """Raise CliplitError if work in the directory would change finished stages, or if it is not a run."""
        stored = stored_settings(self.path)
        finished, begun = (any(self.path.glob(f"*/{name}.json")) for name in ("stage", "building"))
        if any(self.path.glob("[!.]*")) and not (stored or finished or begun):  # a damaged manifest is rewritten
            raise CliplitError(
                f"{self.path}: this folder is neither empty nor a run (no {MANIFEST} of one); choose another one with --run"
            )
        if stored and finished and not rebuild and (changes := differing(stored, self.settings)):
            raise CliplitError(
                f"{self.path}: this run has other settings ({shortened(changes)}); choose another --run, or give them to "
                f"`cliplit train --run {self.path} --rebuild`, which replaces {shortened(self.outdated()) or 'no stage'}"
            )
        self.rebuilding = rebuild or not finished or self._manifest().get("rebuilding") is True
        self.refuse_outdated()

    def begin(self, rebuild: bool = False) -> "Run":
        """Check the directory, write settings and versions to its manifest, and return the run.

        Args:
            rebuild: replace outdated stages, each when its new version is complete.
        Raises:
            CliplitError: the directory has other settings or outdated stages, or is not a run; another process works
                there; or it cannot be written.
        """
        self.check(rebuild)
        if rebuild and (found := self.outdated()):
            listed = "; ".join(f"{stage} ({shortened(reasons)})" for stage, reasons in found.items())
            processes.say(f"{self.path}: replaced, each stage when its new one is complete: {listed}")
        processes.wait()  # until all processes have checked
        other = stored_settings(self.path) != self.settings
        if processes.is_main() and (rebuild or other or (self.path / NEW).exists()):
            with held(self.path):
                self.settle()
        return self

    def summary(self) -> str:
        """Path, profile, seed and versions in two lines."""
        versions = ", ".join(f"{name} {found}" for name, found in VERSIONS.items())
        maker = self._manifest().get("cliplit", cliplit.__version__)
        return (
            f"run {self.path}, profile {self.settings.profile}, seed {self.settings.seed}, made by cliplit {maker}\n"
            f"cliplit {cliplit.__version__}, Python {platform.python_version()}, {versions}"
        )

    def settle(self) -> None:
        """Also write manifest.json: settings, seed, versions, and the time and outputs of each stage."""
        super().settle()
        records = {name: self.record(name) or {} for name in self.finished()}
        self.rebuilding = self.rebuilding and bool(self.outdated())
        command = ["git", f"--git-dir={CHECKOUT / '.git'}", "rev-parse", "--verify", "--quiet", "HEAD"]
        revision = None  # without a checkout or git
        with suppress(OSError):
            revision = subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
        manifest = {
            "cliplit": self._manifest().get("cliplit", cliplit.__version__),  # the version that started the run
            "git": revision,
            "rebuilding": self.rebuilding,
            "profile": self.settings.profile,
            "seed": self.settings.seed,
            "settings": to_json(self.settings),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": VERSIONS,
            "stages": {name: {key: made[key] for key in ("seconds", "outputs")} for name, made in records.items()},
        }
        write_json(manifest, self.path / MANIFEST)

    def _manifest(self) -> dict[str, Any]:
        return read_json(self.path / MANIFEST) or {}

    def inputs_of(self, stage: str) -> dict[str, Any]:
        """Seed, settings, and digests of the files that change the result of a stage."""
        every = to_json(self.settings)
        groups = {group: every[group] for group in self.plan[stage].settings}
        if "guidance" in groups and (kind := self.settings.guidance.kind) not in BUILT_IN:
            groups["guidance file"] = digest_of(Path(kind.rpartition(":")[0]))
        if "clip" in groups:
            names = (self.settings.clip.similarity, self.settings.clip.identity)
            groups["CLIP weights"] = {name: digest_of_weights(name) for name in names}
        return {"seed": every["seed"]} | groups


def stored_settings(path: str | Path, strict: bool = True) -> Settings | None:
    """The settings in the manifest of a run; None if it is not readable. Raises CliplitError as `from_json` does."""
    file = Path(path) / MANIFEST
    manifest = read_json(file, settings=dict)
    try:
        return from_json(manifest["settings"], strict) if manifest else None
    except CliplitError as error:
        raise CliplitError(
            f"{file}: {error}; if another version made it, continue with that one, or choose another --run"
        ) from None


def choose_run(profile: str, path: str | Path, changes: Mapping[str, Any]) -> Run:
    """The run of a command or notebook: a new one, or an existing one with its own settings and `changes`.

    Args:
        profile: empty for the profile of the existing run, or else demo.
        path: the directory; if empty, as in `Run`.
        changes: settings by dotted name.
    Raises:
        CliplitError: unknown profile or setting, or a value that is not allowed.
    """
    run = Run(path, get_profile(profile or "demo", changes))
    stored = stored_settings(run.path)
    if stored and profile in ("", stored.profile):
        run = Run(run.path, check_values(override(stored, changes)))
    return Run(run.path, placed(run.settings, stored))


def start_run(
    profile: Any = "", run: Any = "", seed: int | None = None, overrides: Mapping[str, Any] | str | float | None = None
) -> Run:
    """Begin the run of a notebook. Arguments and errors as in `choose_run` and `Run.begin`.

    Args:
        profile, run: texts; a number means its text, since papermill turns "2024" into a number.
        overrides: a dictionary by dotted name, or a text "name=value name=value".
    """
    changes: dict[str, Any] = {} if seed is None else {"seed": seed}
    changes |= overrides if isinstance(overrides, Mapping) else parse_overrides(str(overrides or ""))
    path = str(run or "")
    if path and not Path(path, MANIFEST).exists() and any(Path.cwd().glob("00_*.ipynb")):  # by hand, in notebooks/
        path = str(Path.cwd().parent / path)
    return choose_run(str(profile or ""), path, changes).begin()
