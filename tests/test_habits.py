"""What `make lint` looks at, but for the types (they take long): style, the import contract; and the measures of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cliplit"
MODULES = sorted(PACKAGE.rglob("*.py"))
ON_TOP = {"__init__.py", "__main__.py", "errors.py", "profiles.py", "py.typed", "settings.py"}
MOST_LINES = 400  # of a module
MOST_PARAMETERS = 5  # of a function; options of a command are no parameters
COMMANDS = {
    "ruff check": ["ruff", "check", "--no-cache"],
    "ruff format": ["ruff", "format", "--check", "--no-cache"],
    "import contract": ["lint-imports", "--no-cache"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_house_is_in_order(name):
    program, *arguments = COMMANDS[name]
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        pytest.skip("the extra `dev` is not installed")
    found = subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_few_files_lie_on_top():
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == ON_TOP


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_are_short_and_their_functions_take_few_parameters(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    if "cli" not in path.relative_to(PACKAGE).parts:
        assert {name: count for name, count in parameters(text).items() if count > MOST_PARAMETERS} == {}


def parameters(text: str) -> dict[str, int]:
    """How many parameters every function has, without self and cls."""
    counts = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            names = [given.arg for given in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            counts[f"{node.name}, line {node.lineno}"] = len(set(names) - {"self", "cls"})
    return counts
