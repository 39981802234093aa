"""Not on Linux: nothing asks for what only POSIX has, and worker processes may be spawned."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cliplit
from cliplit.scoring import files
from cliplit.scoring.files import Item, by_processes, in_turn
from cliplit.scoring.metrics import Meter

PACKAGE = Path(cliplit.__file__).parent
POSIX_MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "pty", "tty"}
POSIX_CALLS = {
    *("fork", "kill", "killpg", "getpgid", "setsid", "geteuid", "getuid", "mkfifo", "statvfs", "sysconf", "chown"),
    *("getxattr", "setxattr", "listxattr", "sched_getaffinity", "SIGKILL", "SIGHUP", "SIGUSR1", "link"),
}
GUARDED = {  # where it may fail
    ("engine/stages.py", "link"),
}


def posix_names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & POSIX_MODULES
        if isinstance(node, ast.ImportFrom):
            found |= {node.module} & POSIX_MODULES
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "signal"):
            found |= {node.attr} & POSIX_CALLS
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("/dev/", "/proc/"))
        ):
            found.add(node.value)
    return found


def test_nothing_asks_unguarded_for_what_only_posix_has():
    files = sorted(PACKAGE.rglob("*.py"))
    found = {
        (file.relative_to(PACKAGE).as_posix(), name)
        for file in files
        for name in posix_names(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found == GUARDED


@pytest.mark.parametrize("text", ["import fcntl", "from pwd import getpwuid", "os.kill(1, 9)", "open('/proc/cpuinfo')"])
def test_the_look_finds_it(text):
    assert posix_names(ast.parse(text))


def test_scores_are_the_same_by_a_spawned_process(tmp_path, monkeypatch):
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    meter = Meter(["entropy"])
    items = [Item(file.name, file, None, pending={"entropy": ""}) for file in sorted(tmp_path.iterdir())]
    monkeypatch.setattr(files, "START", "spawn")
    spawned = [outcome for _, outcome in by_processes(meter, items, 1)]  # another takes seconds to import the same
    assert spawned == [outcome for _, outcome in in_turn(meter, items, torch.device("cpu"))]
