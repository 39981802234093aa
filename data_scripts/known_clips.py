"""Store numbers that identify CLIPs, so that `cliplit` refuses another model with the same name.

    python data_scripts/known_clips.py [NAME...]        # e.g. ViT-B-32-quickgelu/openai RN101-quickgelu/openai

Without names, the numbers of the embedded CLIPs are stored. Numbers of other CLIPs do not change.
"""

import argparse

from cliplit.files.atomic import read_json, write_json
from cliplit.method.clip import KNOWN, known_by, load_backbone
from cliplit.method.clip_weights import EMBEDDED


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("clips", nargs="*", default=[*EMBEDDED], metavar="NAME")
    known = read_json(KNOWN) or {}
    for name in options.parse_args().clips:
        known[name] = known_by(load_backbone(name, known=False))
    write_json(known, KNOWN)
    print(KNOWN)


if __name__ == "__main__":
    main()
