"""Train the enhancer that ships with the package, and put it there.

    python data_scripts/train_enhancer.py PHOTOS... [--work runs/photos] [--output cliplit/models/enhancer.safetensors]

Every eighth photo of each folder is held out (data_scripts/evaluate_enhancer.py looks at those). Three times, half of
the others are made dark, from not at all to severely, everywhere, in the foreground or both; the other half is the
well-lit side.
The settings are those of the profile `photos` (`cliplit settings --profile photos`). It goes on where it was interrupted.
What ships lifts by a quarter more stops than the network was trained to, as `--strength 1.25` would.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from photo_sets import described, split

from cliplit.data.manifest import has_manifest
from cliplit.data.prepare import synthesize_data_set
from cliplit.method.checkpoints import load_enhancer, save_enhancer
from cliplit.method.run import Run
from cliplit.method.training import train
from cliplit.profiles import profile
from cliplit.settings import parse_overrides

THREADS = 2  # results depend on their number
STRENGTH = 1.25  # stops of the map that ships, over those that were learned: the guide is satisfied a little early
DRAWS = 3  # of each photo: the side that it serves on, and its light


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("photos", type=Path, nargs="+", help="folders of photos in good light")
    options.add_argument("--work", type=Path, default=Path("runs/photos"), help="folder of the data and the run")
    options.add_argument("--output", type=Path, default=Path("cliplit/models/enhancer.safetensors"))
    options.add_argument("--set", default="", metavar='"NAME=VALUE ..."', help="settings other than the profile's")
    given = options.parse_args()
    torch.set_num_threads(THREADS)
    data = given.work / "data"
    if not has_manifest(data):
        synthesize_data_set(data, split(given.photos)[0], level="any", test_share=0.0, draws=DRAWS)
    settings = profile("photos", {"data.sets": (str(data.resolve()),)} | parse_overrides(given.set))
    run = Run.start(given.work / "run", settings)
    train(run)
    last = f"enhancer{run.settings.refinement.rounds}"
    network = load_enhancer(run.folder(last) / "enhancer.safetensors")
    network.architecture["min_illumination"] **= STRENGTH  # the lower bound to a power: the whole map to it
    photos = f"photos of {described(given.photos)}, made dark"
    named = replace(settings, data=replace(settings.data, sets=(photos,)))
    save_enhancer(network, given.output, named, last, len((run.folder(last) / "log.csv").read_text().splitlines()) - 1)
    print(given.output)


if __name__ == "__main__":
    main()
