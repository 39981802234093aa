"""What a newcomer gets: requirements, a quick import, notebooks fit to read, nothing heavy in the repository."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import cliplit
from cliplit.experiments.notebooks import list_notebooks, notebooks_folder
from cliplit.profiles import PROFILES
from cliplit.settings import describe

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "open_clip", "pyiqa", "pandas", "matplotlib", "papermill")
NOTEBOOKS = list_notebooks(notebooks_folder())
WORKFLOW = ROOT / ".github/workflows/ci.yml"
BIBTEX = ("title", "author", "booktitle", "year")
FORMS = [path for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]


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


def read_yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps() -> list[dict]:
    return [step for job in read_yaml(WORKFLOW)["jobs"].values() for step in job["steps"]]


def test_ci_tests_every_python_that_is_promised():
    promised = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', promised)
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', promised)[1]
    assert versions == [f"3.{minor}" for minor in range(int(oldest), int(oldest) + len(versions))]
    assert read_yaml(WORKFLOW)["jobs"]["test"]["strategy"]["matrix"]["python"] == versions  # quoted: 3.10 is not 3.1
    used = {step["with"]["python-version"] for step in steps() if "python-version" in step.get("with", {})}
    assert used <= {*versions, "${{ matrix.python }}"}


def test_ci_runs_targets_of_make_or_what_they_run():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = "\n".join(step.get("run", "") for step in steps())
    called = set(re.findall(r"^make ([\w-]+)", commands, re.MULTILINE))
    assert {"demo", "lint", "test"} <= called <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    for arguments in re.findall(r"Scripts/\w+ (.*install.*)", commands):  # Windows
        assert f"$(BIN)/python {arguments}\n" in makefile


def test_ci_may_only_read_and_uses_official_actions_of_one_major_version():
    assert read_yaml(WORKFLOW)["permissions"] == {"contents": "read"}
    actions = {step["uses"] for step in steps() if "uses" in step}
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)
    assert len({action.partition("@")[0] for action in actions}) == len(actions)


def test_the_citation_is_of_this_version_and_of_the_paper_in_the_docs():
    cited = read_yaml(ROOT / "CITATION.cff")
    assert (cited["title"], cited["version"]) == ("cliplit", cliplit.__version__)
    paper = cited["preferred-citation"]
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    field = {name: re.search(rf"^  {name} += {{(.+)}}", page, re.MULTILINE)[1] for name in BIBTEX}
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert [paper["title"], names, paper["collection-title"], str(paper["year"])] == list(field.values())


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_are_what_github_reads(path):
    form = read_yaml(path)
    fields = {field["id"]: field for field in form["body"]}
    assert form["name"] and form["description"] and len(fields) == len(form["body"])
    assert all(field["type"] in ("input", "textarea") and field["attributes"]["label"] for field in fields.values())
    assert "`cliplit doctor`" in fields["doctor"]["attributes"]["label"]


def test_people_may_also_write_without_a_form():
    assert read_yaml(FORMS[0].with_name("config.yml")) == {"blank_issues_enabled": True}


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
    assert len(cells) <= 16 and all(len(source.splitlines()) <= 15 for source in sources)
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
    assert sum(results) < 9e6
