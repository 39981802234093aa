"""Train the enhancer that ships with the package, and put it there.

    python data_scripts/train_enhancer.py PHOTOS... [--work runs/photos] [--output cliplit/models/enhancer.safetensors]

Every eighth photo of each folder is held out for data_scripts/evaluate_enhancer.py. Three times, the script makes half
of the others dark, from not at all to severely, in half of them in the foreground alone. The other half is the well-lit
side. The settings are those of the profile `photos` (`cliplit settings --profile photos`). An interrupted training
resumes where it stopped. The file that the script writes lifts more than the network learned (--lift), and at most by
MOST stops.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from photo_sets import described, split

from cliplit.data.manifest import has_manifest
from cliplit.data.prepare import synthesize_data_set
from cliplit.experiments.evaluation import train_controls
from cliplit.method.checkpoints import load_enhancer, read_metadata, save_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run
from cliplit.method.training import train
from cliplit.profiles import profile
from cliplit.settings import parse_overrides

THREADS = 1  # results depend on their number
LIFT = 2.5  # factor on small lifts, in stops: CLIP is satisfied while a subject is still dark
MOST = 2.75  # stops: the most that any pixel is lifted
DRAWS = 3  # each photo is used so often, each time with another side and another light


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("photos", type=Path, nargs="+", help="folders of photos in good light")
    options.add_argument("--work", type=Path, default=Path("runs/photos"), help="folder of the data and the run")
    options.add_argument("--output", type=Path, default=Path("cliplit/models/enhancer.safetensors"))
    options.add_argument("--stage", help="write this network: enhancer0 ... or longer; default: that of the last round")
    options.add_argument("--lift", type=float, default=LIFT, help=f"factor on small lifts, in stops; default {LIFT}")
    options.add_argument("--set", default="", metavar='"NAME=VALUE ..."', help="settings other than the profile's")
    given = options.parse_args()
    torch.set_num_threads(THREADS)
    data = given.work / "data"
    if not has_manifest(data):
        synthesize_data_set(data, split(given.photos)[0], level="any", test_share=0.0, draws=DRAWS)
    fixed = {"data.sets": (str(data.resolve()),), "evaluation.control": False}
    settings = profile("photos", fixed | parse_overrides(given.set))
    run = Run.start(given.work / "run", settings)
    train(run)
    if given.stage == "longer":
        train_controls(run)
    stage = given.stage or f"enhancer{run.settings.refinement.rounds}"
    trained = run.folder(stage) / "enhancer.safetensors"
    network = load_enhancer(trained)
    lift(network, given.lift, MOST)
    photos = f"photos of {described(given.photos)}, made dark"
    named = replace(settings, data=replace(settings.data, sets=(photos,)))
    save_enhancer(network, given.output, named, stage, read_metadata(trained)["iteration"])
    print(given.output)


def lift(network: Enhancer, factor: float, most: float) -> None:
    """Multiply small lifts in stops by a factor, and bound all lifts by `most` stops.

    The lift is the range of the map in stops times a sigmoid (`Enhancer.positive`). So the new range is a new lower bound
    of the map, and the factor is a shift of the sigmoid's argument.
    """
    learned = -math.log2(network.architecture["min_illumination"])
    network.architecture["min_illumination"] = 2**-most
    network.cond_add1.bias.data -= math.log(factor * learned / most)


if __name__ == "__main__":
    main()
