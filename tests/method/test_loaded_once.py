"""A process loads each CLIP once: in a whole training with its control and the looks after it, and in every notebook."""

from collections import Counter
from pathlib import Path

import nbformat
import pytest

import cliplit
from cliplit.experiments import analysis, evaluation
from cliplit.experiments.notebooks import list_notebooks, notebooks_folder
from cliplit.method import clip
from cliplit.method.run import Run, start_run

NOTEBOOKS = [path for path in list_notebooks(notebooks_folder()) if path.stem[:2] in ("01", "02", "03", "04")]


@pytest.fixture
def loads(monkeypatch) -> Counter:
    """How often each CLIP is loaded, by name and whether its weights are random."""
    found: Counter = Counter()

    def counted(name: str, *, random: bool = False, **options):
        found[name, random] += 1
        return loaded(name, random=random, **options)

    loaded = clip.load_backbone
    monkeypatch.setattr(clip, "load_backbone", counted)
    clip._loaded.cache_clear()
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    return start_run("smoke", tmp_path_factory.mktemp("once") / "run")


def test_a_training_and_the_looks_after_it(trained, loads):
    cliplit.train(trained)
    evaluation.train_controls(trained)
    analysis.prompt_scores(trained, [analysis.UNTRAINED, 0, 1, 2])
    analysis.illumination_maps(trained)
    assert loads == {("tiny", False): 1, ("tiny", True): 1}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_of_a_finished_run(trained, loads, notebook: Path):
    """All cells in this process; what they would display is left out."""
    cliplit.train(trained), evaluation.train_controls(trained)
    clip._loaded.cache_clear(), loads.clear()
    names = {"display": lambda *shown: None}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source.replace("from IPython.display import Markdown, display", "Markdown = str"), names)
        if "parameters" in cell.metadata.get("tags", ()):
            names |= {"profile": "smoke", "run": str(trained.path)}
    assert all(count == 1 for count in loads.values()), loads
