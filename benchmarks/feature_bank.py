"""Compare prompt pairs learned from a bank of precomputed views and from new views in every iteration.

    python benchmarks/feature_bank.py [--output results/benchmarks/feature_bank.md]

They are trained with `tiny` on a few images of the demo. Each image is drawn about as often (167 times), and the pair
can move about as far (iterations x learning rate), as in the profile paper. Each pair is tested on new views of new
crops.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch

from cliplit.experiments.analysis import separation
from cliplit.files.atomic import write_text
from cliplit.method import losses, training
from cliplit.method.augmentation import ViewFeatures
from cliplit.method.run import Run, start_run
from cliplit.method.run_images import prepare_data, training_images
from cliplit.scoring.summary import markdown

BANKS = (0, 4, 16)  # views per image; 0: new views in every iteration
SETTINGS = {"data.embedded_images": 48, "prompts.iterations": 1000, "prompts.learning_rate": 4e-5}
NEW_VIEWS = 8  # test views of each new crop


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, help="also write the table there")
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = compare(Path(folder), given.seeds)
    print(table)
    if given.output:
        write_text(table, given.output)


def compare(root: Path, seeds: int) -> str:
    """The table, in Markdown: mean and range over the seeds."""
    rows = []
    for views in BANKS:
        tried = pd.DataFrame([learned(root / f"{views}-{seed}", views, seed) for seed in range(seeds)])
        cells = [f"{tried[name].mean():.3f} ({tried[name].min():.3f} … {tried[name].max():.3f})" for name in tried]
        rows.append([str(views) if views else "0 (new ones in every iteration)", *cells])
    columns = ["views per image", "cross-entropy", "AUC", "mean P(backlit) of backlit", "of well-lit"]
    note = f"Mean (lowest … highest) of {seeds} seeds; `tiny`, {SETTINGS['prompts.iterations']} iterations."
    return markdown(pd.DataFrame(rows, columns=columns)) + f"\n{note}\n"


@torch.no_grad()
def learned(folder: Path, views: int, seed: int) -> dict[str, float]:
    """Learn a pair with this many views per image, and test it on new views of new crops."""
    run = start_run("demo", folder / "run", seed, SETTINGS | {"prompts.views_per_image": views})
    prepare_data(run)
    with torch.enable_grad():
        guidance = training.initialize_prompts(run)
    other = start_run("demo", folder / "new", 1000 + seed, SETTINGS)
    prepare_data(other)
    features, labels = new_views(other, guidance.clip)
    text, scale = guidance.pair(), run.settings.clip.softmax_scale
    scores = losses.backlit_scores(features, text, scale)
    sides = {"backlit": scores[labels == 0], "well-lit": scores[labels == 1]}
    return {
        "loss": losses.prompt_initialization_loss(features, text, labels, scale).item(),
        "auc": separation(sides)["auc"],
    } | {side: values.mean().item() for side, values in sides.items()}


def new_views(run: Run, clip) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of views of all images of a run, and their labels."""
    sides = [training.at_prompt_size(side, run.settings.prompts.size) for side in training_images(run)]
    encode = [ViewFeatures(clip, [side], run.settings, f"new {n}") for n, side in enumerate(sides)]
    seen = [
        one(list(range(len(side))), draw)[0]
        for one, side in zip(encode, sides, strict=True)
        for draw in range(NEW_VIEWS)
    ]
    return torch.cat(seen), torch.tensor([0, 1]).repeat_interleave(NEW_VIEWS).repeat_interleave(len(sides[0]))


if __name__ == "__main__":
    main()
