"""`cliplit score` and `metrics` where output is not as usual: other encodings, closed pipes, odd names, unknown names."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image


@pytest.fixture
def run(tmp_path):
    """Start `cliplit` as a program of its own in an empty folder with a picture in it."""
    Image.linear_gradient("L").save(tmp_path / "a.png")

    def call(*arguments: str, **variables: str) -> subprocess.Popen:
        environment = {**os.environ, **variables}
        command = [sys.executable, "-m", "cliplit", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, encoding="latin-1")

    return call


@pytest.mark.parametrize(
    ("encoding", "arguments"),
    [
        ("cp1252", ("metrics", "psnr")),
        ("ascii:strict", ("score", "a.png", "--metrics", "entropy", "--no-cache")),
    ],
)
def test_what_the_encoding_lacks_is_substituted(run, encoding, arguments):
    program = run(*arguments, PYTHONIOENCODING=encoding)
    out, err = program.communicate()
    assert program.returncode == 0 and " ? (" in out and "Traceback" not in err


@pytest.mark.parametrize("names", ["psnr", ""])
def test_a_closed_pipe_ends_quietly(run, names):
    program = run("metrics", *([names] if names else []))
    program.stdout.close()
    assert program.stderr.read() == ""
    assert program.wait() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_unicode_come_out_escaped_everywhere(cli, tmp_path):
    place = tmp_path / os.fsdecode(b"f\xff")
    place.mkdir()
    for name in (b"a\xe9.png", b"b\xe9.psd"):
        Image.linear_gradient("L").save(place / os.fsdecode(name), "PNG")
    target = tmp_path / "scores.csv"
    arguments = ("score", place, "--metrics", "entropy", "--no-cache")
    code, out, _ = cli(*arguments, "--csv", target)
    assert code == 0 and list(pd.read_csv(target, encoding="utf-8")["image"]) == ["a\\udce9.png"]
    assert any("f\\udcff" in line for line in out)
    code, out, err = cli(*arguments)
    assert out[1].startswith("a\\udce9.png  ") and "b\\udce9.psd: " in err[0]


def test_rows_go_by_what_was_given(cli, tmp_path, monkeypatch):
    for name in ("here/a.png", "here/b.png", "there/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.linear_gradient("L").save(tmp_path / name)
    monkeypatch.chdir(tmp_path / "here")
    given = (".", "../there/", tmp_path / "here", "./", "a.png")
    code, out, err = cli("score", *given, "--metrics", "entropy", "--no-cache")
    rows = {line.split()[0]: line.split()[1] for line in out[out.index("") + 2 :]}
    assert code == 0 and rows == {".": "2", "../there": "1", str(tmp_path / "here"): "2", "a.png": "1"}
    assert err[-1].startswith("3 images scored (3 scores computed")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("--metrics", "pnsr"), "psnr"),
        (("--metrics", "PSNR"), "psnr"),
        (("--metrics", "papre"), "paper"),
        (("--preset", "Rave"), "rave"),
        (("--set", "psnr_color=rgb"), "psnr_colour"),
    ],
)
def test_what_was_perhaps_meant(cli, tmp_path, arguments, meant):
    code, out, err = cli("score", tmp_path, *arguments)
    assert code == 2 and not out and len(err) == 1 and err[0].endswith(f"; did you mean '{meant}'?")
    assert len(err[0]) < 200  # no list of all metrics


def test_nothing_is_suggested_for_what_is_like_nothing(cli, tmp_path):
    _, _, err = cli("score", tmp_path, "--metrics", "xyzzy42")
    assert err == ["cliplit: error: unknown metric 'xyzzy42'; `cliplit metrics` lists those of pyiqa"]


def test_the_limit_of_pixels_is_passed_on(cli, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "large.png")
    Image.linear_gradient("L").resize((64, 64)).save(tmp_path / "small.png")
    code, _, err = cli("score", tmp_path, "--metrics", "entropy", "--no-cache", "--max-pixels", "5000", "--strict")
    assert code == 2 and "large.png" in err[0] and err[-1].startswith("1 image scored (1 score computed")
