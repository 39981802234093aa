"""What a newcomer gets: requirements, a quick import, notebooks fit to read, nothing heavy in the repository."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cliplit.experiments.notebooks import list_notebooks, notebooks_folder
from cliplit.profiles import PROFILES
from cliplit.settings import describe

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "open_clip", "pyiqa", "pandas", "matplotlib", "papermill")
NOTEBOOKS = list_notebooks(notebooks_folder())


def requirements() -> list[str]:
    listed = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)[
        1
    ]
    return re.findall(r'"(.+?)"', listed)


def test_conda_asks_for_the_same_as_pip():
    text = (ROOT / "environment.yml").read_text()
    python = re.search(r'requires-python = "(.+?)"', (ROOT / "pyproject.toml").read_text())[1]
    assert re.findall(r"^      - (.+)$", text, re.MULTILINE) == requirements()
    assert f"- python{python}" in text


def test_constraints_pin_every_requirement():
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pinned = {name.lower().replace("_", "-") for name in pins}
    assert {re.match(r"[\w-]+", need)[0].lower().replace("_", "-") for need in requirements()} <= pinned


@pytest.mark.parametrize("modules", ["cliplit", "cliplit.cli.app, cliplit.experiments.notebooks"])
def test_imports_are_light_and_quick(modules):
    code = f"import sys, time, {modules}; print(*sys.modules, time.process_time())"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert float(loaded.pop()) < 2  # seconds of the processor, whatever else it has to do
    assert "cliplit" in loaded and not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("name", ["get", "verify", "prepare", "synthesize"])
def test_data_scripts_are_the_commands(name):
    script = [sys.executable, ROOT / "data_scripts" / f"{name}.py", "--help"]
    shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert f"data {name} [OPTIONS]" in shown and "--root" in shown


def test_every_setting_has_a_source():
    for profile in PROFILES.values():
        assert [row["name"] for row in describe(profile) if not row.get("source")] == ["profile"]


def test_there_are_seven_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{n:02d}" for n in range(7)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short_and_committed_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    assert len(cells) <= 10 and all(len(source.splitlines()) <= 15 for source in sources)
    for source in sources:  # `%cd` and `!pip` are no Python, so they do not parse
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_one_cell_of_literal_parameters(path):
    cells = json.loads(path.read_text())["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(tagged[0]).body}
    assert values == {"profile": "", "run": "", "seed": None, "overrides": {}}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_nothing_heavy_is_tracked():
    assert not [path for path in tracked() if path.stat().st_size > 5e6]
    results = [path.stat().st_size for path in tracked() if path.is_relative_to(ROOT / "results" / "demo")]
    assert sum(results) < 8e6
