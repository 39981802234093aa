"""Train the enhancer that ships with the package, and put it there.

    python data_scripts/train_enhancer.py PHOTOS... [--work runs/photos] [--output cliplit/models/enhancer.safetensors]

Every eighth photo of each folder is held out, for trials of settings; half of the others are made backlit, from not at all to severely, the other half is the well-lit side. The settings are those of the
profile `photos` (`cliplit settings --profile photos`). It goes on where it was interrupted.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from cliplit.data.manifest import has_manifest
from cliplit.data.synthesize import Synthesis, synthesize_data_set
from cliplit.files.folders import list_images
from cliplit.method.checkpoints import load_enhancer, save_enhancer
from cliplit.method.run import Run
from cliplit.method.training import train
from cliplit.profiles import profile

HELD_OUT = 8  # one photo in so many


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("photos", type=Path, nargs="+", help="folders of photos in good light")
    options.add_argument("--work", type=Path, default=Path("runs/photos"), help="folder of the data and the run")
    options.add_argument("--output", type=Path, default=Path("cliplit/models/enhancer.safetensors"))
    given = options.parse_args()
    torch.set_num_threads(1)  # results depend on their number
    data = given.work / "data"
    if not has_manifest(data):
        training = [file for folder in given.photos for file in split(folder)[0]]
        synthesize_data_set(data, training, Synthesis(level="mixed", test_share=0.0))
    run = Run.start(given.work / "run", profile("photos", {"data.sets": (str(data.resolve()),)}))
    train(run)
    last = f"enhancer{run.settings.refinement.rounds}"
    network = load_enhancer(run.folder(last) / "enhancer.safetensors")
    named = replace(run.settings, data=replace(run.settings.data, sets=("photos, made backlit",)))
    save_enhancer(network, given.output, named, last, len((run.folder(last) / "log.csv").read_text().splitlines()) - 1)
    print(given.output)


def split(folder: Path) -> tuple[list[Path], list[Path]]:
    """Photos of a folder to train with, and those held out."""
    files = list_images(folder)
    return [file for n, file in enumerate(files) if n % HELD_OUT], files[::HELD_OUT]


if __name__ == "__main__":
    main()
