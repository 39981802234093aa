"""The paper's claims that runs can test: effects with intervals over seeds and photos, and verdicts."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from cliplit.errors import CliplitError
from cliplit.experiments.evaluation import PROMPT_SCORES, REFERENCE, stage_name
from cliplit.experiments.studies import ablations, study_runs
from cliplit.experiments.tables import NOT_TOLD, PAPER_DATA, by_photo, paper_table, photo_scores, stages_table
from cliplit.method.run import Run
from cliplit.method.schedule import ranked_rounds
from cliplit.scoring.metrics import catalogue
from cliplit.scoring.summary import paired_difference, read_table

Cell = tuple[Run, str]  # a run and one of its stages
LAST = "last round against"
WORDS = "P(backlit) of inputs minus references: initial pair against words"
ORDER = "share of neighbours in the right order: last round against initial pair"
REACHED = "last round against the reported number"


class Claim(NamedTuple):
    """A claim of the paper, its section, what is measured, and the effect by run (rows) and test photo (columns).

    A positive effect supports the claim. `effect` raises CliplitError with the reason if runs cannot test the claim.
    """

    says: str
    section: str
    measured: str
    effect: Callable[[list[Run]], pd.DataFrame]


def claims() -> list[Claim]:
    """All claims that runs can test."""

    def over(row: str, section: str, says: str) -> Claim:
        return Claim(
            says, section, f"{LAST} {row}", lambda runs: _gain(((run, _last(run)), (run, row)) for run in runs)
        )

    def over_variant(study: str, variant: str, section: str, says: str) -> Claim:
        return Claim(says, section, f"{study}: against {variant}", partial(_over_variant, study, variant))

    return [
        Claim("Learned prompts separate backlit from well-lit images better than words.", "3.1", WORDS, _separation),
        Claim("Refined prompts rank inputs, results and well-lit images better.", "3.2", ORDER, _ranking),
        over("longer", "3.2", "The rounds improve on equally long training without refinement."),
        over("initial", "4", "The rounds improve on the initial network."),
        over_variant("ablation_guidance", "adversarial", "4", "CLIP-Enhance beats an adversarial loss."),
        over_variant("ablation_guidance", "none", "3.1", "CLIP-Enhance beats no guidance."),
        over_variant("ablation_identity", "no identity loss", "3.1", "The identity loss is needed."),
        over("gamma", "4", "The results beat the best gamma curve."),
        over("histeq", "4", "The results beat histogram equalisation."),
        over("clahe", "4", "The results beat CLAHE."),
        over("random-clip", "–", "CLIP with random weights does not work."),
        *(
            Claim(f"CLIP-LIT reaches its numbers on {data}.", "4", REACHED, partial(_reported, data))
            for data in PAPER_DATA
        ),
    ]


def claims_table(runs: list[Run]) -> pd.DataFrame:
    """A row for each claim: what was measured, the effect with its interval, and the verdict.

    An interval above zero supports the claim, an interval below zero contradicts it. All others, and claims with only
    one seed, are undecided. Effects are gains in the evaluation's first metric unless `measured` says otherwise.

    Args:
        runs: seeds of one experiment. The first one holds the studies.
    """
    options = runs[0].settings.evaluation
    rows = []
    for claim in claims():
        row = {"claim": claim.says, "section": claim.section, "measured": claim.measured}
        try:
            effect = claim.effect(runs).dropna(axis="columns")
            if effect.empty:
                raise CliplitError("no test image has a score")
        except CliplitError as error:
            rows.append(row | {"verdict": f"not testable here: {error}"})
            continue
        found = paired_difference(effect, 0 * effect, options.resamples, options.confidence, runs[0].settings.seed)
        sign = int(found.low > 0) - int(found.high < 0)
        verdict = ("undecided", "supported", "contradicted")[sign] if len(effect) > 1 else "undecided: one seed"
        row |= {"effect": found.mean, "low": found.low, "high": found.high}
        rows.append(row | {"seeds": len(effect), "photos": found.images, "verdict": verdict})
    columns = ["claim", "section", "measured", "effect", "low", "high", "seeds", "photos", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def for_readers(table: pd.DataFrame) -> pd.DataFrame:
    """The table of claims for readers: effect and interval in one cell, numbers of seeds and photos in another."""
    told = table["effect"].notna()
    effect = table.agg("{0[effect]:+.2f} [{0[low]:+.2f}, {0[high]:+.2f}]".format, axis=1).where(told, "")
    count = table.agg("{0[seeds]:.0f} × {0[photos]:.0f}".format, axis=1).where(told, "")
    shown = table[["claim", "section", "measured"]]
    return shown.assign(**{"effect [95 %]": effect, "seeds × photos": count, "verdict": table["verdict"]})


def _over_variant(name: str, variant: str, runs: list[Run]) -> pd.DataFrame:
    study = ablations(runs[0].settings)[name]
    sides = [
        [(cell, study.variants[label].stage_of(cell)) for cell in study_runs(runs[0], study, label)]
        for label in (next(iter(study.variants)), variant)
    ]
    if not all(cell.record("evaluation") for side in sides for cell, _ in side):
        raise CliplitError(f"the study {name} has not been run")
    return _gain(zip(*sides, strict=True))


def _gain(pairs: Iterable[tuple[Cell, Cell]]) -> pd.DataFrame:
    """How much better the first cell of every pair is than the second, for each photo."""
    rows = {}
    for (run, stage), (other, against) in pairs:
        scores, others = photo_scores(run), photo_scores(other)
        metric = catalogue()[scores.columns[0]]
        if against not in others.index or (run, stage) == (other, against):
            raise CliplitError(f"this run has no `{against}` beside its last round")
        rows[run.settings.seed] = metric.gain(scores.loc[stage, metric.name], others.loc[against, metric.name])
    return pd.DataFrame(rows).T


def _separation(runs: list[Run]) -> pd.DataFrame:
    rows = {}
    for run in runs:
        scores = by_photo(run, _prompt_scores(run))
        if "words" not in scores:
            raise CliplitError("this CLIP cannot compare the words")
        apart = scores.loc["input"] - scores.loc[REFERENCE]
        rows[run.settings.seed] = apart["initial"] - apart["words"]
    return pd.DataFrame(rows).T


def _ranking(runs: list[Run]) -> pd.DataFrame:
    rows = {}
    for run in runs:
        last = run.settings.refinement.rounds
        if not last:
            raise CliplitError("this run has no rounds")
        scores = _prompt_scores(run)
        chain = [scores.loc[stage] for stage in ("input", *map(stage_name, ranked_rounds(last)), REFERENCE)]
        ordered = sum((higher > lower).astype(float) for higher, lower in pairwise(chain)) / (len(chain) - 1)
        rows[run.settings.seed] = by_photo(run, ordered[_last(run)] - ordered["initial"])
    return pd.DataFrame(rows).T


def _reported(data: str, runs: list[Run]) -> pd.DataFrame:
    table = paper_table(runs, stages_table(runs), data)
    rows = table[(table["reproduced"] != "") & (table["reported"] != NOT_TOLD)]
    if rows.empty:
        raise CliplitError(table["note"].iloc[0] or "no number of the paper is at hand")
    metric, told = catalogue()[rows["metric"].iloc[0]], float(rows["reported"].iloc[0])
    gains = {run.settings.seed: metric.gain(photo_scores(run).loc[_last(run), metric.name], told) for run in runs}
    return pd.DataFrame(gains).T


def _prompt_scores(run: Run) -> pd.DataFrame:
    """Scores by stage and image (rows) and prompts (columns)."""
    file = run.folder("evaluation") / PROMPT_SCORES
    if not file.is_file():
        raise CliplitError("this evaluation scored no prompts")
    scores = read_table(file, "stage", "image").set_index(["stage", "image"])
    if REFERENCE not in scores.index:
        raise CliplitError("the test images have no references")
    return scores


def _last(run: Run) -> str:
    return stage_name(run.settings.refinement.rounds)
