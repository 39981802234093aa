"""README, docs and their neighbours: the links, commands, paths, settings and code that they show are there."""

import ast
import importlib
import re
import shlex
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

import cliplit
from cliplit.cli.app import app
from cliplit.experiments.studies import every_study
from cliplit_photos.command import enhance

app.command()(enhance)  # as `main` does
ROOT = Path(__file__).parent.parent
README, CHANGELOG = ROOT / "README.md", ROOT / "CHANGELOG.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]  # what they name is there today; the changelog also names what was
MOST_LINES = 150  # of the README: one page

FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```$", re.DOTALL | re.MULTILINE)
OURS = re.compile(r"(cliplit|tests|docs|notebooks|data_scripts|benchmarks)/[\w./-]*")  # paths in the repository
GROUPS = [item.name for item in fields(cliplit.Settings) if is_dataclass(getattr(cliplit.Settings(), item.name))]
PROGRAMS = ("cliplit", "make", "python", "papermill", "torchrun", "accelerate")


def having(find: Callable[[Path], Any], pages: list[Path] = PAGES) -> list[Any]:
    """The pages that have something to look at, so that no test passes because it saw nothing."""
    return [pytest.param(page, id=page.name) for page in pages if find(page)]


# What a page shows


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """Code within lines."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def fences(page: Path, language: str) -> list[str]:
    return [code for kind, code in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def links(page: Path) -> list[str]:
    """Targets of links and images in the repository."""
    targets = re.findall(r"\]\(([^()\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"\w+:", target)]


def commands(page: Path) -> list[list[str]]:
    """The words of all shown commands, in blocks and within lines, without the path of the environment."""
    lines = [line for code in fences(page, "") for line in code.replace("\\\n", " ").splitlines()] + spans(page)
    lines = [line.strip().removeprefix(".venv/bin/") for line in lines]
    return [shlex.split(line, comments=True) for line in lines if line.partition(" ")[0] in PROGRAMS]


def of_cliplit(page: Path) -> list[list[str]]:
    """What follows `cliplit` in commands, also in those of a launcher."""
    started = [words for words in commands(page) if words[0] == "cliplit" or ("-m", "cliplit") in pairwise(words)]
    return [rest for words in started if (rest := words[words.index("cliplit") + 1 :])]


def of_program(page: Path, program: str) -> list[list[str]]:
    return [words[1:] for words in commands(page) if words[0] == program and len(words) > 1]


def options(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


def lone_options(page: Path) -> list[str]:
    """Options that are named without their command."""
    return [span for span in spans(page) if span.startswith("--")]


def changes(words: list[str]) -> list[str]:
    """Values of `--set`."""
    return [value for option, value in pairwise(words) if option == "--set"]


def named_settings(page: Path) -> list[str]:
    return [span for span in spans(page) if re.fullmatch(rf"({'|'.join(GROUPS)})\.\w+", span)]


def changed_settings(page: Path) -> list[list[str]]:
    every = [*of_cliplit(page), *(["", *span.split()] for span in lone_options(page))]
    return [words for words in every if changes(words)]


def paths(page: Path) -> list[str]:
    """Paths in the repository, within lines and in commands."""
    shown = [*spans(page), *(word for words in commands(page) for word in words)]
    return [word for word in shown if OURS.fullmatch(word)]


def dotted_names(page: Path) -> list[str]:
    """Names such as `cliplit.enhance`, with or without what follows in parentheses."""
    return [match[0] for span in spans(page) if (match := re.match(r"cliplit(\.\w+)+", span))]


def python_blocks(page: Path) -> list[str]:
    return fences(page, "python")


def filled(page: Path) -> list[str]:
    """The files that commands fill with tables."""
    fills = ("--fill", "data_scripts/fill.py")
    return [file for words in commands(page) for before, file in pairwise(words) if before in fills and "." in file]


# What is there


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        repeated = sum(slug == other or re.fullmatch(rf"{re.escape(slug)}-\d+", other) is not None for other in found)
        found.add(f"{slug}-{repeated}" if repeated else slug)
    return found


def own_options(command: Any) -> set[str]:
    return {"--help"} | {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}


def every_option(command: Any) -> set[str]:
    """Of a command and all below it."""
    return own_options(command).union(*map(every_option, getattr(command, "commands", {}).values()))


def objections(words: list[str]) -> list[str]:
    """What is wrong with a command of cliplit: no such command, or options that it does not have."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name == "COMMAND":  # any of them
            return []
        if name not in command.commands:
            return [f"no command {name}"]
        command = command.commands[name]
    return [option for option in options(rest) if option not in own_options(command)]


def resolve(name: str) -> Any:
    """A module, or what is in one.

    Raises:
        AttributeError, ImportError: there is no such name.
    """
    found = importlib.import_module("cliplit")
    for n, part in enumerate(name.split(".")[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(name.split(".")[:n]))
        found = getattr(found, part)
    return found


def check_setting(change: str, of_score: bool) -> None:
    """Raise CliplitError or AssertionError unless NAME=VALUE can be set."""
    name, _, value = change.partition("=")
    if name == "NAME":
        return
    if of_score or "." not in name:
        assert hasattr(cliplit.Conventions(), name), f"no convention {name}"
    else:
        cliplit.profile("demo", {name: value})


# Tests


@pytest.mark.parametrize("find", [links, commands, of_cliplit, lone_options, python_blocks])
def test_the_readme_has_some_of_everything_that_is_looked_for(find):
    assert find(README)


def test_the_readme_is_one_page_that_leads_to_all_docs():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert {f"docs/{page.name}" for page in DOCS} <= {target.partition("#")[0] for target in links(README)}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_opens_with_its_question(page):
    assert re.match(r"# [^\n]+\?\n", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", having(links, [*PAGES, CHANGELOG]))
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        assert place.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(place), f"{target}: {place.name} has {sorted(anchors(place))}"


@pytest.mark.parametrize("page", having(of_cliplit))
def test_commands_of_cliplit_have_these_options(page):
    wrong = {" ".join(words): found for words in of_cliplit(page) if (found := objections(words))}
    assert not wrong


@pytest.mark.parametrize("page", having(lone_options))
def test_options_without_their_command_are_of_some_command(page):
    known = every_option(typer.main.get_command(app))
    assert not [span for span in lone_options(page) if not set(options(span.split())) <= known]


@pytest.mark.parametrize("page", having(changed_settings))
def test_settings_can_be_set_to_these_values(page):
    for words in changed_settings(page):
        for change in changes(words):
            check_setting(change, of_score=words[0] == "score")


@pytest.mark.parametrize("page", having(named_settings))
def test_named_settings_exist(page):
    settings = cliplit.Settings()
    for name in named_settings(page):
        group, _, leaf = name.partition(".")
        assert hasattr(getattr(settings, group), leaf), name


@pytest.mark.parametrize("page", having(lambda page: of_program(page, "make")))
def test_targets_of_make_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {word for words in of_program(page, "make") for word in words if "=" not in word}
    assert asked <= targets


@pytest.mark.parametrize("page", having(lambda page: of_program(page, "python")))
def test_scripts_exist_and_know_these_options(page):
    for script, *rest in of_program(page, "python"):
        if script != "-m":
            text = (ROOT / script).read_text(encoding="utf-8")
            assert not [option for option in options(rest) if f'"{option}"' not in text], script


@pytest.mark.parametrize("page", having(lambda page: of_program(page, "papermill")))
def test_notebooks_for_papermill_exist(page):
    assert all((ROOT / words[0]).is_file() for words in of_program(page, "papermill"))


@pytest.mark.parametrize("page", having(paths))
def test_paths_exist(page):
    assert not [path for path in paths(page) if not (ROOT / path).exists()]


def test_the_tree_of_the_package_is_there():
    tree = next(code for code in fences(ROOT / "CONTRIBUTING.md", "") if code.startswith("cliplit/\n"))
    above: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], line.split()[0]]
        path = ROOT / "".join(above)
        assert path.is_dir() if line.split()[0].endswith("/") else path.is_file(), path
    packages = {path.parent.name for path in (ROOT / "cliplit").glob("*/__init__.py")}
    assert packages <= {line.split()[0].rstrip("/") for line in tree.splitlines()}


@pytest.mark.parametrize("page", having(dotted_names))
def test_dotted_names_resolve(page):
    for name in dotted_names(page):
        resolve(name)


@pytest.mark.parametrize("page", having(python_blocks))
def test_python_compiles_and_what_it_uses_of_cliplit_exists(page):
    for code in python_blocks(page):
        tree = ast.parse(code)
        known: dict[str, Any] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cliplit":
                known |= {item.asname or item.name: resolve(f"{node.module}.{item.name}") for item in node.names}
            if isinstance(node, ast.Import) and "cliplit" in [item.name for item in node.names]:
                known["cliplit"] = cliplit
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
                assert hasattr(known[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


def test_every_table_has_one_place_which_ends():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    opened, closed = (re.findall(rf"^<!-- {sign}(\w+) -->$", text, re.MULTILINE) for sign in ("", "/"))
    assert sorted(opened) == sorted(closed)
    assert len(set(opened)) == len(opened)
    assert {"stages", "differences", "claims", *every_study(cliplit.profile("demo"))} <= set(opened)


@pytest.mark.parametrize("page", having(filled))
def test_files_to_fill_have_places_for_tables(page):
    for name in filled(page):
        assert re.search(r"^<!-- /\w+ -->$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE), name
