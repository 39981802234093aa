"""What `make lint` looks at, but for the types (they take long): style, the import contract; and the measures of the house."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cliplit"
MODULES = sorted(path for package in ("cliplit", "cliplit_photos") for path in (ROOT / package).rglob("*.py"))
ON_TOP = {"__init__.py", "__main__.py", "errors.py", "profiles.py", "values.py", "py.typed", "settings.py"}
MOST_LINES = 400  # of a module
MOST_LINES_OF = {"cliplit": 9_720, "cliplit_photos": 3_330}  # a change that adds lines finds others to remove
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("package, most", MOST_LINES_OF.items())
def test_packages_stay_small(package, most):
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / package).rglob("*.py")) <= most
