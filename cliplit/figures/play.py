"""Interactive views: a before/after slider, which needs no kernel, and a panel for JupyterLab."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from IPython import get_ipython
from IPython.display import HTML, DisplayHandle, display
from jinja2 import Environment, FileSystemLoader
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cliplit.data.relight import expose
from cliplit.experiments.analysis import STOPS, STRENGTHS, score, stage_name
from cliplit.experiments.evaluation import results
from cliplit.figures import style
from cliplit.files.tensors import to_uint8
from cliplit.method.guidance.clip_lit import LatentGuidance
from cliplit.method.run import Run
from cliplit.method.run_images import TestImage, test_images
from cliplit.method.training import guidance_of, network_of

PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
LONGEST = 800  # pixels, longer side of the pictures in a slider
WORDS = ("a backlit photo", "a well lit photo")


def slider(run: Run, images: Sequence[int] = range(6)) -> HTML:
    """Test images before and after the last network, with a line to drag. This needs no kernel."""
    return HTML(PAGES.get_template("sliders.html.jinja").render(pairs=pairs(run, images)))


def pairs(run: Run, images: Sequence[int] = range(6)) -> list[dict[str, str]]:
    """Test images as dictionaries: `name`, and data URIs `before` and `after`."""
    tests = [test for n, test in enumerate(test_images(run)) if n in images]
    rows = zip(tests, results(run, stage_name(run.settings.refinement.rounds), tests), strict=True)
    return [{"name": test.name, "before": _uri(test.backlit), "after": _uri(after)} for test, after in rows]


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _uri(image: Tensor) -> str:
    picture, buffer = Image.fromarray(to_uint8(image)), io.BytesIO()
    picture.thumbnail((LONGEST, LONGEST))
    picture.save(buffer, "JPEG", quality=82)
    return data_uri(buffer.getvalue(), "jpeg")


def play(run: Run, images: Sequence[int] = range(6)) -> style.Picture | None:
    """A panel for JupyterLab: choose a test image and a round, move strength and exposure, type a pair of prompts.

    The picture is a separate output, which stays when the kernel stops. Only the picture is shown without ipywidgets,
    and if nobody can move the controls, as in papermill and nbconvert.
    """
    tests = {test.name: test for n, test in enumerate(test_images(run)) if n in images}
    first = played(run, *look_at(run, next(iter(tests.values())), run.settings.refinement.rounds))
    kernel = getattr(get_ipython(), "kernel", None)  # only front-ends with a user let cells ask for input
    if not (find_spec("ipywidgets") and kernel and kernel.get_parent("shell")["content"].get("allow_stdin")):
        return first
    place = DisplayHandle()
    display(panel(run, tests, place.update))
    return place.display(first)


def panel(run: Run, tests: Mapping[str, TestImage], show: Callable[[style.Picture], Any]) -> Any:
    """The controls of `play`. Every change calls `show` with a new picture and displays a table of scores."""
    from ipywidgets import Text, interactive

    def move(image: str, round: int, strength=1.0, exposure=0.0, backlit=WORDS[0], well_lit=WORDS[1]) -> None:
        images, scores = look_at(run, tests[image], round, strength, exposure, (backlit, well_lit))
        show(played(run, images, scores))
        display(scores.round(3))

    rounds = [(stage_name(k), k) for k in reversed(range(run.settings.refinement.rounds + 1))]
    ranges = {"strength": (0.0, STRENGTHS[-1], 0.05), "exposure": (STOPS[0], STOPS[-1], 0.25)}
    words = {key: Text(text, continuous_update=False) for key, text in zip(("backlit", "well_lit"), WORDS, strict=True)}
    return interactive(move, image=[*tests], round=rounds, **ranges, **words)


@torch.no_grad()
def look_at(
    run: Run, test: TestImage, k: int, strength: float = 1.0, stops: float = 0.0, words: tuple[str, str] = WORDS
) -> tuple[list[Tensor], pd.DataFrame]:
    """Input, illumination map to the power of `strength`, result; P(backlit) by the round's prompts and by words."""
    network, learned = network_of(run, f"enhancer{k}"), guidance_of(run, k)
    image = expose(test.backlit[None].to(learned.clip.mean.device), stops)
    light = network(image) ** strength
    shown = {"input": image, "result": network.divide(image, light)}
    pair = torch.cat([*map(learned.clip.encode_text, words)])
    by = {f"prompts of {stage_name(k)}": learned, " / ".join(words): LatentGuidance(run.settings, learned.clip, pair)}
    scores = {name: {key: score(each, x).item() for key, x in shown.items()} for name, each in by.items()}
    table = pd.DataFrame.from_dict(scores, orient="index").rename_axis(style.SCORE)
    return [image[0].cpu(), light[0].cpu(), shown["result"][0].cpu()], table


@style.saved("04_play.jpg")
def played(run: Run, images: list[Tensor], scores: pd.DataFrame) -> Figure:
    """Draw the output of `look_at`: input, illumination map and result, with P(backlit) by the round's prompts."""
    image, light, result = images
    low, high = light.min().item(), light.max().item()
    coloured = style.painted(ScalarMappable(Normalize(0, max(1.0, high)), "viridis"), light[0], image)
    before, after = (f"{style.SCORE} {scores.iloc[0][key]:.2f}" for key in ("input", "result"))
    labels = f"input: {before}", f"÷ map, {low:.2f} to {high:.2f}", f"= result: {after}"
    return style.mosaic([[image, coloured, result]], column_labels=labels)
