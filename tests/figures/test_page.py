"""The page of a run: all that it has, in one file; and the slider between before and after."""

import base64
import html
import re
import shutil
from urllib.parse import unquote

import pytest

from cliplit.experiments.claims import claims
from cliplit.figures.page import write_page
from cliplit.figures.play import slider
from cliplit.method.run import VERSIONS, Run


@pytest.fixture(scope="module")
def run(reproduced, tmp_path_factory) -> Run:
    """A copy, for these tests write into it."""
    return Run.open(shutil.copytree(reproduced.run.path, tmp_path_factory.mktemp("page") / "run"))


@pytest.fixture(scope="module")
def page(run) -> str:
    (run.path / "tables" / "ablation_x.md").write_text("| variant | psnr |\n| --- | --- |\n| with `x` \\<1 | 12.34 |\n")
    return write_page(run).read_text(encoding="utf-8")


def words(page: str) -> str:
    return html.unescape(re.sub("<.*?>", "", page))


def test_the_page_has_every_claim_table_and_figure(run, page):
    for claim in claims():
        assert claim.says in words(page)
    files = [*(run.path / "tables").glob("*.md")]
    assert {"stages.md", "claims.md", "paper_baid.md", "ablation_x.md"} < {file.name for file in files}
    for file in files:
        rows = [line.strip("| ").split(" | ") for line in file.read_text().splitlines() if "---" not in line]
        for cell in (cell for row in rows for cell in row):
            assert re.sub(r"`|\\", "", cell).strip() in words(page), file
    figures = [*(run.path / "figures").iterdir()]
    assert len(figures) > 10
    for file in figures:
        assert base64.b64encode(file.read_bytes()).decode() in page, file
    assert page.count("<img") == len(figures) + 6 and page.count('type="range"') == 3  # three test images


def test_the_page_says_how_the_run_was_made(run, page):
    assert "Not compared" in page and f"Run {run.path.name}" in page
    assert "clip.similarity" in page and "ViT-B-32" in page  # here and in the paper
    assert all(version in page for version in VERSIONS.values()) and all(stage in page for stage in run.finished())


def test_the_page_needs_nothing_from_outside_and_its_links_lead_somewhere(run, page):
    targets = re.findall(r'(?:src|href)="(.*?)"', page)
    notebooks = {file.name for file in (run.path / "notebooks").glob("*.ipynb")}
    assert {f"notebooks/{name}" for name in notebooks} <= set(targets) and len(notebooks) == 5
    for target in targets:
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in page
        elif not target.startswith("data:image/"):
            assert (run.path / unquote(target)).is_file()
    assert "@import" not in page and "url(" not in page and not re.search(r"<img(?![^>]*alt=\"\w)", page)


def test_the_command_writes_the_same_page(cli, run, page):
    assert cli("report", "--run", run.path) == (0, [f"report     {run.path / 'report.html'}"], [])
    assert (run.path / "report.html").read_text(encoding="utf-8") == page


def test_an_unfinished_run_has_no_page(cli, reproduced, tmp_path):
    shutil.copytree(reproduced.run.path, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "report.html"))
    code, out, err = cli("report", "--run", tmp_path / "run")
    assert (code, out, len(err)) == (2, [], 1) and "stage 'evaluation' is missing" in err[0]
    assert not [*(tmp_path / "run").glob("*report.html*")]
    assert cli("report", "--run", tmp_path)[0] == 2


def test_the_slider_stands_alone(run):
    shown = slider(run, [0, 2]).data
    assert shown.count('<input type="range"') == 2 and shown.count("data:image/jpeg;base64,") == 4
    assert "000_chelsea, before" in shown and "002_chelsea, after" in shown and "http" not in shown
