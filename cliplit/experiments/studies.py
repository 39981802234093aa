"""Studies: the paper's ablations, and a comparison of guidances. A study has variants, which differ in settings.

Every variant has one run for each seed, in <run>/studies/<digest of its settings>. Variants that several studies share
are trained once, finished runs are kept, and `outcome_of` makes tables of the finished ones. Each run is trained on one
thread, so that results do not depend on how many are trained at a time.
"""

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partialmethod
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from cliplit.engine import processes
from cliplit.engine.compute import find_device
from cliplit.engine.processes import workers
from cliplit.errors import CliplitError, one_line
from cliplit.experiments.evaluation import check_others, evaluate
from cliplit.experiments.planning import at_work, check_models
from cliplit.experiments.tables import stages_table
from cliplit.method.run import Run, stored_settings
from cliplit.method.training import train
from cliplit.scoring.metrics import catalogue, choose
from cliplit.scoring.summary import score_columns, with_spread, write_table
from cliplit.scoring.weights import left_out, why_unavailable
from cliplit.settings import Settings, Studies, from_json, override, parse_overrides, shown, to_json
from cliplit.values import check_values, differing


@dataclass(frozen=True)
class Variant:
    """Changes to the study's settings, and the stage that is evaluated: initial, round1 ..., last."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    stage: str = "last"

    def stage_of(self, cell: Run) -> str:
        """The stage that is evaluated in a run of this variant."""
        rounds = cell.settings.refinement.rounds
        return self.stage if self.stage != "last" else f"round{rounds}" if rounds else "initial"


@dataclass(frozen=True)
class Study:
    """A question, and the variants that answer it. The first one is the unchanged method."""

    name: str
    question: str
    variants: Mapping[str, Variant]


def ablations(settings: Settings) -> dict[str, Study]:
    """The paper's ablations, for these settings, by name."""
    rounds = {"refinement.rounds": settings.studies.rounds}
    iterations = {"initial prompt pair": Variant(rounds, "initial")}
    iterations |= {f"round {k}": Variant(rounds, f"round{k}") for k in range(1, settings.studies.rounds + 1)}
    words = {
        "“backlit” / “well lit”": ("backlit", "well lit"),
        "“dark” / “bright”": ("dark", "bright"),
        "“a photo of a … scene”": ("a photo of a backlit scene", "a photo of a well lit scene"),
    }
    for label, pair in words.items():
        iterations[f"fixed: {label}"] = Variant({"prompts.iterations": 0, "prompts.initial": pair})
    data = {"all well-lit images": Variant()}
    data |= {f"{n} well-lit images": Variant({"data.well_lit_images": n}) for n in (24, 4)}
    if not settings.data.well_lit:
        both = {"data.embedded_backlit": ("motorcycle", "coffee"), "data.embedded_well_lit": ("grace_hopper", "rocket")}
        data["well-lit: other scenes"] = Variant(both)
    kinds = {"CLIP-Enhance": "clip-lit", "adversarial": "adversarial", "none": "none"}
    guidance = {label: Variant({"guidance.kind": kind}) for label, kind in kinds.items()}
    stages = "enhancement.identity_stages"
    identity = {
        "stem and stages 1–4": Variant(),
        "stem alone": Variant({stages: (1.0, 0.0, 0.0, 0.0, 0.0)}),
        "stages 3 and 4": Variant({stages: (0.0, 0.0, 0.0, 1.0, 0.5)}),
        "no identity loss": Variant({"enhancement.identity_weight": 0.0}),
    }
    prompts = {"as the run": Variant()}
    for n in (4, 16):
        if (settings.prompts.initial, settings.prompts.length) != (("", ""), n):
            prompts[f"“X … X”, {n} words"] = Variant({"prompts.initial": ("", ""), "prompts.length": n})
    prompts["“backlit” / “well lit”"] = Variant({"prompts.initial": ("backlit", "well lit")})
    backbones = {name: Variant({"clip.similarity": name}) for name in settings.studies.backbones}
    backbones["random weights"] = Variant({"clip.random": True})
    studies = (
        Study("ablation_iterations", "What do learned prompts add to words, and the rounds to them?", iterations),
        Study("ablation_data", "How many well-lit images does it take, and of what?", data),
        Study("ablation_guidance", "Does CLIP's guidance do more than a discriminator, or nothing?", guidance),
        Study("ablation_identity", "What holds the result to its input?", identity),
        Study("ablation_prompts", "How long should prompts be, and what should they start from?", prompts),
        Study("ablation_backbone", "Whose guidance is best?", backbones),
    )
    return {study.name: study for study in studies}


def guidance_variants(settings: Settings) -> Study:
    """The paper's guidance, both of RAVE, and none, with the same number of network iterations.

    Half of the iterations are the initial training. The others are divided into rounds, to show the progress.
    """
    common = _study_settings(settings)
    steps = settings.studies.progress_rounds
    total = common.enhancement.iterations + settings.studies.rounds * common.refinement.tuning_iterations
    rounds = {
        "enhancement.iterations": total - total // 2 // steps * steps,
        "refinement.tuning_iterations": total // 2 // steps,
        "refinement.rounds": steps,
    }
    kinds: dict[str, dict[str, Any]] = {
        "CLIP-LIT": {},
        "CLIP-LIT-Latent": {"guidance.kind": "clip-lit-latent"},
        "RAVE": {"guidance.kind": "rave"},
        "none": {"guidance.kind": "none"},
    }
    variants = {label: Variant(rounds | changes) for label, changes in kinds.items()}
    return Study("guidance_variants", "Which guidance leads where, and how quickly?", variants)


def every_study(settings: Settings) -> dict[str, Study]:
    """All studies by name."""
    variants = guidance_variants(settings)
    return ablations(settings) | {variants.name: variants}


@dataclass(frozen=True)
class Outcome:
    """The finished runs of a study.

    Attributes:
        metric: the first of `studies.metrics` that could be computed. It ranks the variants.
        cells: the finished runs of every variant, one per seed.
        stages: `tables.stages_table` of every variant with finished runs.
    """

    study: Study
    metric: str
    cells: dict[str, list[Run]]
    stages: dict[str, pd.DataFrame]

    @property
    def table(self) -> pd.DataFrame:
        """Mean scores of the input and of every variant over test images and seeds.

        For every metric m: the mean `m`, the standard deviation over images `m_std`, the standard deviation of the
        seeds' means `m_seed_std`; and the number of seeds, `seeds`.
        """
        rows: dict[str, pd.Series] = {}
        for label, table in self.stages.items():
            rows.setdefault("input", table.loc["input"])
            rows[label] = table.loc[self.study.variants[label].stage_of(self.cells[label][0])]
        table = pd.DataFrame(rows).T.rename_axis("variant").reset_index()
        return table.astype({"images": int, "seeds": int} if rows else {})

    @property
    def course(self) -> pd.DataFrame:
        """The first metric after every stage of the network.

        Columns: variant, stage, iterations of the network after the warm-up, the metric's mean over images and seeds,
        and `std`, the standard deviation of the seeds' means.
        """
        rows = []
        for label, table in self.stages.items():
            options = self.cells[label][0].settings
            first, tuning = options.enhancement.iterations, options.refinement.tuning_iterations
            iterations = {"warmup": 0, "initial": first}
            iterations |= {f"round{k}": first + k * tuning for k in range(1, options.refinement.rounds + 1)}
            scores = table.reindex(columns=[self.metric, f"{self.metric}_seed_std"])
            rows += [(label, stage, count, *scores.loc[stage]) for stage, count in iterations.items()]
        return pd.DataFrame(rows, columns=["variant", "stage", "iterations", self.metric, "std"])


def run_studies(run: Run, studies: Iterable[Study], jobs: int = 0, rebuild: bool = False) -> dict[str, Outcome]:
    """Train and evaluate the missing runs of some studies; return their outcomes by name.

    Args:
        jobs: runs trained at a time; 0: one per core on a CPU, one on a GPU. If one fails, the others continue.
        rebuild: as for `Run.start`.
    """
    studies = list(studies)
    seeds = run.settings.studies.seeds
    if not seeds or len(set(seeds)) < len(seeds):
        raise CliplitError(f"studies.seeds must be different numbers, at least one, got {shown(seeds) or 'none'}")
    unavailable = why_unavailable(run.settings.studies.metrics)
    cells = [cell for study in studies for label in study.variants for cell in study_runs(run, study, label)]
    missing = [
        cell
        for cell in {cell.path: cell for cell in cells}.values()
        if not cell.record("evaluation") or cell.notes("evaluation", "evaluation.json")["missing"].keys() - unavailable
    ]
    if missing:
        check_others(missing[0].settings.evaluation)
        for cell in missing:
            check_values(cell.settings)
        for alike in {
            (cell.settings.clip, cell.settings.guidance, cell.settings.prompts): cell for cell in missing
        }.values():
            check_models(alike.settings)
        for line in left_out(unavailable):
            processes.say(f"metrics of studies: {line}")
        usual = (os.cpu_count() or 1) if find_device(run.settings.device).type == "cpu" else 1
        count = min(jobs or usual, len(missing))
        # After Ctrl-C, a run stops at the end of its iteration.
        with at_work(run, rebuild), workers(count, "spawn", _prepare_worker) as pool:
            futures = [pool.submit(_train, str(cell.path), to_json(cell.settings)) for cell in missing]
            done = tqdm(as_completed(futures), "studies", len(futures), unit="run", leave=False)
            failures = [one_line(error) for future in done if (error := future.exception())]
        if failures:
            raise CliplitError(f"{run.path}: {len(failures)} of {len(missing)} runs failed; the first: {failures[0]}")
    return {study.name: outcome_of(run, study) for study in studies}


def outcome_of(run: Run, study: Study) -> Outcome:
    """The outcome of a study: its finished runs."""
    every = {label: study_runs(run, study, label) for label in study.variants}
    cells = {label: [cell for cell in runs if cell.record("evaluation")] for label, runs in every.items()}
    stages = {label: stages_table(done).set_index("stage") for label, done in cells.items() if done}
    scored = [name for table in stages.values() for name in score_columns(table) if table[name].notna().any()]
    return Outcome(study, [*scored, *choose(run.settings.studies.metrics)][0], cells, stages)


def study_runs(run: Run, study: Study, label: str) -> list[Run]:
    """The runs of a variant, one for each seed. They need not exist yet."""
    base = override(_study_settings(run.settings), study.variants[label].changes)
    there = []
    for manifest in sorted(run.path.glob("studies/*/manifest.json")):
        with suppress(CliplitError):  # this version does not know one of its settings
            if stored := stored_settings(manifest.parent):
                there.append(Run(manifest.parent, stored))
    cells = []
    for seed in run.settings.studies.seeds:
        settings = replace(base, seed=seed)
        digest = hashlib.sha256(json.dumps(to_json(settings)).encode()).hexdigest()[:12]
        found = [cell for cell in there if not differing(cell.settings, settings)]  # also those of earlier versions
        cells.append(found[0] if found else Run(run.path / "studies" / digest, settings))
    return cells


def write_study(run: Run, outcome: Outcome) -> pd.DataFrame:
    """Write a study's table to <run>/tables as CSV, Markdown and LaTeX; return it formatted for readers.

    The table of `guidance_variants` has a column `iterations`: the network iterations until a variant reaches a common
    score. This is the worst of the final scores that are better than the input's. Variants that never reach it get no
    number.
    """
    table, course, metric = outcome.table, outcome.course, outcome.metric
    shown = with_spread(table)
    if outcome.study.name == "guidance_variants":
        gain = catalogue()[metric].gain(course[metric], table.set_index("variant").loc["input", metric])
        last = gain.groupby(course["variant"], sort=False).last().drop("none", errors="ignore")
        enough = (gain >= last[last > 0].min()) & (course["iterations"] > 0)
        reached = course[enough].groupby("variant")["iterations"].min()
        table["iterations"] = table["variant"].map(reached)
        shown["iterations"] = [f"{n:.0f}" if pd.notna(n) else "–" for n in table["iterations"]]
    write_table(table, shown, run.path / "tables", outcome.study.name)
    return shown


def _study_settings(settings: Settings) -> Settings:
    """The settings that all runs of a study share: no rounds, no controls, no baselines."""
    base = replace(settings, studies=Studies(seeds=(), changes=()))
    base = override(base, parse_overrides(settings.studies.changes))
    common: dict[str, Any] = {"evaluation.metrics": settings.studies.metrics, "evaluation.gammas": (1.0,)}
    common |= {"evaluation.control": False, "evaluation.longer": False}
    common |= {f"evaluation.{others}": () for others in ("baselines", "checkpoints", "results")}
    return override(base, common | {"refinement.rounds": 0})


def _prepare_worker() -> None:
    tqdm.__init__ = partialmethod(tqdm.__init__, disable=True)  # tqdm may have read the environment already
    torch.set_num_threads(1)

    def end_with_parent() -> None:  # otherwise the workers of a killed parent would continue training
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _train(path: str, settings: Mapping[str, Any]) -> None:
    """Train and evaluate one run of a study. Stages that other runs of the study share are taken from them."""
    cell = Run.start(path, from_json(settings))
    cell.adopt_from(cell.path.parent.iterdir())
    train(cell)
    evaluate(cell)
