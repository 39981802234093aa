"""Write the model card of the models in the package, from the metadata of their files and the tables of results.

python data_scripts/model_cards.py [--output cliplit/models/MODEL_CARD.md]
"""

import argparse
from pathlib import Path

import pandas as pd

from cliplit.files.atomic import write_text
from cliplit.method.checkpoints import read_metadata
from cliplit.method.clip_weights import EMBEDDED
from cliplit.scoring.summary import markdown
from cliplit.settings import from_json
from cliplit_photos.inference import SHIPPED_ENHANCER

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "results" / "default" / "reported.md"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, default=SHIPPED_ENHANCER.parent / "MODEL_CARD.md")
    given = options.parse_args()
    write_text("\n".join([HEAD, enhancer(), *(clip(name) for name in EMBEDDED)]), given.output)
    print(given.output)


HEAD = """# Models that come with cliplit

Written by `python data_scripts/model_cards.py` from what the files say of themselves and from `results/`.
"""


def enhancer() -> str:
    """The section on the default enhancer."""
    notes = read_metadata(SHIPPED_ENHANCER)
    settings = from_json(notes["settings"])
    source = " ".join(settings.data.sets)
    return f"""## {SHIPPED_ENHANCER.name}

**What it is.** The network that `cliplit enhance` uses by default: of CLIP-LIT's kind ({architecture(notes)}),
{SHIPPED_ENHANCER.stat().st_size / 1e3:.0f} kB, stage {notes["stage"]} of profile `{settings.profile}`, seed {settings.seed}. It predicts an illumination
map; the result is the image divided by it. How it was made: docs/enhancer.md. Licence: MIT.

**Trained on** {source}; unpaired, guided by `{settings.clip.similarity}`.

**Measured** on photos that it was not trained with (what the columns mean: docs/enhancer.md):

{TABLE.read_text(encoding="utf-8")}
**Bad at** what its table shows, and: a soft dark or light seam may stay around small lights in the dark; deep shadows come out with
their noise; it cannot bring back what is clipped, and does not darken what is too bright; light that is meant (night, silhouettes,
stage) is lifted all the same. It knows light from a small CLIP, and was not looked at for faces or skin in particular.
"""


def clip(name: str) -> str:
    """The section on an embedded CLIP."""
    notes = read_metadata(EMBEDDED[name])
    settings, figures = (notes[key] for key in ("settings", "evaluation"))
    kinds = pd.DataFrame(
        [(kind.replace("_", " "), f"{score:.2f}") for kind, score in figures["p_by_kind"].items()],
        columns=["held-out photos made", "mean P(backlit)"],
    )
    size = f"{settings['image_size']}x{settings['image_size']}"
    return f"""## {EMBEDDED[name].name}

**What it is.** `{name}`, a stand-in for CLIP: a ResNet tower for {size} pixels and a text tower of three layers,
{EMBEDDED[name].stat().st_size / 1e6:.1f} MB. It knows light and little else. How it was made: docs/tiny.md. Licence: {notes["license"]}.

**Trained on** {notes["training_data"]}

**Measured** on {figures["images"]} held-out photos: backlit against well-lit {figures["accuracy"]:.2f} right, AUC {figures["auc"]:.2f}.

{markdown(kinds)}
**Bad at** everything but light: its text tower has only seen captions about light, and it cannot stand for CLIP in any comparison.
"""


def architecture(notes: dict) -> str:
    """The architecture in a file's metadata, in words."""
    known = notes["architecture"].items()
    return ", ".join(
        f"{name.replace('_', ' ')} {f'{value:.3g}' if type(value) is float else value}" for name, value in known
    )


if __name__ == "__main__":
    main()
