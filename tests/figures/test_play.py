"""The panel of notebook 04: what its controls change, and what is left of it without a kernel."""

import shutil

import nbformat
import papermill
import pytest
from conftest import write_notebook

from cliplit.experiments import analysis
from cliplit.figures import play
from cliplit.figures.play import look_at
from cliplit.method.run import Run
from cliplit.method.run_images import test_images as images_of


@pytest.fixture(scope="module")
def run(reproduced, tmp_path_factory) -> Run:
    return Run.open(shutil.copytree(reproduced.run.path, tmp_path_factory.mktemp("play") / "run"))


@pytest.fixture
def moved(run, capsys):
    """Sets a control, and returns the picture and the printed scores that follow."""
    shown = []
    panel = play.panel(run, {test.name: test for test in images_of(run)}, lambda picture: shown.append(picture.data))
    controls = {control._kwarg: control for control in panel.kwargs_widgets}
    capsys.readouterr()

    def move(name, value) -> tuple[bytes, str]:
        shown.clear()
        controls[name].value = value
        (picture,) = shown
        return picture, capsys.readouterr().out

    return move


def test_every_control_changes_the_picture(moved):
    steps = [("image", "001_astronaut"), ("round", 0), ("strength", 0.5), ("exposure", 1.0)]
    told = [moved(*step) for step in steps]
    assert len({picture for picture, _ in told}) == len(steps)
    assert len({scores for _, scores in told}) == len(steps)
    assert "prompts of round2" in told[0][1] and "prompts of initial" in told[1][1]


def test_the_panel_starts_with_the_picture_below_it(run, monkeypatch):
    seen = []
    monkeypatch.setattr(play, "look_at", lambda run, test, *values: seen.append(values) or look_at(run, test, *values))
    play.panel(run, {test.name: test for test in images_of(run)}, lambda picture: None)
    assert seen == [(2, 1.0, 0.0, play.WORDS)]


def test_words_change_their_scores_alone(moved):
    before, scores = moved("well_lit", "a bright photo of a cat in the sun")
    after, others = moved("backlit", "a dark photo")
    assert "a dark photo / a bright photo of a cat in the sun" in others and after == before
    assert scores.splitlines()[1:3] != others.splitlines()[1:3]


def test_what_the_panel_shows_is_what_the_method_computes(run):
    test = images_of(run)[0]
    (image, light, result), scores = play.look_at(run, test, 2)
    network = play.network_of(run, "enhancer2")
    assert result.equal(network.divide(image[None], light[None])[0]) and image.allclose(test.backlit, atol=1e-5)
    learned = analysis.score(play.guidance_of(run, 2), result[None]).item()
    assert scores.loc["prompts of round2", "result"] == pytest.approx(learned)
    (dark, _, _), _ = play.look_at(run, test, 2, strength=0.0, stops=-1.0)
    assert dark.mean() < image.mean()


def test_papermill_leaves_a_picture_and_a_slider_that_need_no_kernel(run, tmp_path):
    cells = [
        "from cliplit.method.run import Run",
        "from cliplit.figures import play",
        f"this = Run.open({str(run.path)!r})",
    ]
    source = write_notebook(tmp_path / "in.ipynb", "\n".join(cells), "play.slider(this)", "play.play(this)")
    papermill.execute_notebook(str(source), str(tmp_path / "out.ipynb"), kernel_name="python3", progress_bar=False)
    *_, slider, played = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert 'type="range"' in slider.outputs[0].data["text/html"]
    assert len(played.outputs) == 1 and "image/jpeg" in played.outputs[0].data
    assert "application/vnd.jupyter.widget-view+json" not in played.outputs[0].data


def test_a_person_gets_the_panel_and_below_it_the_picture(run, monkeypatch, capsys):
    class Kernel:
        def get_parent(self, channel):
            return {"content": {"allow_stdin": True}}

    monkeypatch.setattr(play, "get_ipython", lambda: type("Shell", (), {"kernel": Kernel()}))
    shown = []
    monkeypatch.setattr(play, "display", shown.append)
    assert play.play(run) is None and len(shown[-1].kwargs_widgets) == 6
    monkeypatch.setattr(play, "find_spec", lambda name: None)
    assert play.play(run).path == run.path / "figures" / "04_play.jpg"
