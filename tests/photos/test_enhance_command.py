"""`cliplit enhance`: where results go, what is left alone, going on, several processes, report and side files."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from photo_files import contents, partial, picture
from PIL import Image

import cliplit
from cliplit.errors import CliplitError
from cliplit.method.checkpoints import save_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.profiles import SMOKE
from cliplit_photos import batch, page
from cliplit_photos.command import parse_size
from cliplit_photos.formats import jpeg_quality
from cliplit_photos.inference import Inference, enhance_pixels
from cliplit_photos.jobs import plan_jobs

MOST_MEMORY = 1.5e9  # bytes, of a process with a photo of 100 megapixels
MAP_STEP = 1 / 32768  # of a saved illumination map


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with a photo of each of several kinds, one below, and a text."""
    folder = tmp_path / "photos"
    for n, name in enumerate(["a.jpg", "a.png", "b.webp", "below/a.jpg", "c.bmp"]):
        picture(folder / name, seed=n)
    picture(folder / "grey.png", mode="L")
    picture(folder / "alpha.png", mode="RGBA")
    tifffile.imwrite(folder / "deep.tif", np.full((9, 12, 3), 20000, np.uint16), photometric="rgb")
    (folder / "notes.txt").write_text("not a photo")
    return folder


def test_a_folder_keeps_names_formats_and_folders(enhance, photos, tmp_path):
    before = contents(photos)
    code, out, err = enhance(photos, "-o", tmp_path / "out", "--recursive")
    assert (code, out) == (0, [str(tmp_path / "out")]) and contents(photos) == before
    assert contents(tmp_path / "out").keys() == before.keys() - {"notes.txt"}
    assert "tiny.safetensors" in err[0] and err[-1] == "8 photos enhanced; 1 other file ignored"
    for name in contents(tmp_path / "out").keys() - {"deep.tif"}:
        with Image.open(photos / name) as source, Image.open(tmp_path / "out" / name) as result:
            assert (result.format, result.mode, result.size) == (source.format, source.mode, source.size), name
    deep = tifffile.imread(tmp_path / "out" / "deep.tif")
    assert deep.dtype == np.uint16 and deep.mean() != 20000


def test_the_same_bytes_whatever_the_number_of_jobs(enhance, photos, tmp_path):
    for jobs in (1, 3):
        options = ("--recursive", "--compare", "--save-illumination", "--report", "--jobs", jobs)
        assert enhance(photos, "-o", tmp_path / str(jobs), *options)[0] == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_preview_of_a_network_of_fixed_size_changes_nothing_and_says_so(cli, tmp_path):
    save_enhancer(
        Enhancer(8, max_illumination=1.0, longer_side=16).initialize(1), tmp_path / "fixed.safetensors", SMOKE, "x", 1
    )
    picture(tmp_path / "photo.png", (50, 40))
    for name, options in {"plain": (), "preview": ("--preview", "--preview-size", 30)}.items():
        arguments = (
            tmp_path / "photo.png",
            "-o",
            tmp_path / f"{name}.png",
            "--checkpoint",
            tmp_path / "fixed.safetensors",
        )
        code, _, err = cli("enhance", *arguments, *options)
        assert code == 0 and any("--preview has no effect" in line for line in err) == bool(options)
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "preview.png").read_bytes()


@pytest.mark.parametrize("size", [(1, 1), (47, 31), (200, 90), (333, 70)])
@pytest.mark.parametrize("downscale", [1, 3])
def test_a_photo_may_give_way_to_its_result(size, downscale):
    network = Enhancer(width=4, downscale=downscale, max_illumination=1.5).initialize(1)
    for weight in network.parameters():
        weight.data *= 12  # until the map depends on the pixels
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    for options in Inference(tile=16, max_memory=1), Inference(tile=40, max_memory=1), Inference(preview=20):
        expected = enhance_pixels(network, pixels, options)
        again = pixels.copy()
        assert enhance_pixels(network, again, options, out=again) is again and np.array_equal(again, expected)


def test_strength_zero_changes_nothing(enhance, photos, tmp_path):
    enhance(photos, "-o", tmp_path / "out", "--strength", 0)
    for name in ("a.png", "grey.png", "alpha.png", "c.bmp"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / name)), np.asarray(Image.open(photos / name)))
    assert (tifffile.imread(tmp_path / "out" / "deep.tif") == 20000).all()


def test_one_photo_to_a_file_of_another_format(enhance, tmp_path):
    source = picture(tmp_path / "a.png", mode="RGBA")
    code, out, err = enhance(source, "-o", tmp_path / "new" / "b.jpg")
    assert (code, out) == (0, [str(tmp_path / "new" / "b.jpg")]) and Image.open(out[0]).format == "JPEG"
    assert any("transparency left out" in line and "a.png" in line for line in err)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.jpg"]  # no ledger beside a single file
    before = contents(tmp_path / "new")
    code, _, err = enhance(source, "-o", tmp_path / "new" / "b.jpg", "--strength", 2)
    assert code == 2 and contents(tmp_path / "new") == before and any("--overwrite" in line for line in err)
    assert enhance(source, "-o", tmp_path / "new" / "b.jpg", "--strength", 2, "--overwrite")[0] == 0
    assert contents(tmp_path / "new") != before


def test_names_never_collide(tmp_path):
    for name in ("x/a.jpg", "y/a.jpg", "y/a.gif", "y/z/b.png"):
        picture(tmp_path / name)
    out = tmp_path / "out"

    def names(*inputs, **options):
        return [
            job.target.relative_to(out).as_posix()
            for job in plan_jobs([tmp_path / path for path in inputs], out, **options)[0]
        ]

    assert names("x/a.jpg", "y/a.jpg") == ["x/a.jpg", "y/a.jpg"]
    assert names("x", "y") == ["x/a.jpg", "y/a.gif.png", "y/a.jpg"]
    assert names("y/a.jpg", "y/a.jpg", "y") == ["a.jpg", "a.gif.png"]
    assert names("y", recursive=True) == ["a.gif.png", "a.jpg", "z/b.png"]
    picture(tmp_path / "y" / "a.gif.png")
    assert names("y") == ["a.jpg"]  # the two others are problems
    with pytest.raises(CliplitError, match="need a folder"):
        plan_jobs([tmp_path / "x"], tmp_path / "out.jpg")


def test_results_below_the_photos_are_no_photos(enhance, photos):
    for _ in range(2):
        code, _, err = enhance(photos, "-o", photos / "out", "--recursive")
    assert code == 0 and err[-1].startswith("0 photos enhanced; 8 were already done")
    assert not (photos / "out" / "out").exists()


def test_files_are_left_alone(enhance, photos, tmp_path):
    before = contents(photos)
    for options in (), ("--overwrite",):
        code, _, err = enhance(photos, "-o", photos, *options)
        assert code == 2 and contents(photos) == before and err[-1].startswith("0 photos enhanced; 7 problems")
        assert f"  {photos / 'a.png'}: this is an input, and photos are never replaced; choose another OUT" in err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    for options in (), ("--overwrite",):
        code, _, err = enhance(photos, "-o", tmp_path / "out", *options)
        assert code == 2 and (tmp_path / "out" / "a.png").read_text() == "mine"
        assert f"{tmp_path / 'out/a.png'}: already exists and is not a result of cliplit" in err[-2]
    assert (tmp_path / "out" / "a.jpg").is_file()


def test_a_result_that_was_edited_is_not_replaced(enhance, photos, tmp_path):
    enhance(photos, "-o", tmp_path / "out")
    edited = tmp_path / "out" / "a.png"
    then = edited.stat()
    edited.write_bytes(edited.read_bytes()[:-1] + b"x")  # of the same size and time, as some tools keep them
    os.utime(edited, ns=(then.st_atime_ns, then.st_mtime_ns))
    content = edited.read_bytes()
    code, _, err = enhance(photos, "-o", tmp_path / "out", "--strength", 2, "--overwrite")
    assert code == 2 and err[-1].startswith("6 photos enhanced; 1 problem") and edited.read_bytes() == content
    assert "a.png: already exists and is not a result of cliplit; choose another OUT" in err[-2]


@pytest.mark.parametrize("name", ["a.png.compare.jpg", "a.png.illumination.png"])
def test_files_beside_results_replace_no_others(enhance, photos, tmp_path, name):
    arguments = (photos / "a.png", "-o", tmp_path / "out", "--compare", "--save-illumination")
    assert enhance(*arguments)[0] == 0
    (tmp_path / "out" / "a.png").unlink()  # as if the call had been killed before the result was written
    assert enhance(*arguments)[0] == 0
    (tmp_path / "out" / name).write_text("mine")
    (tmp_path / "out" / "a.png").unlink()
    code, _, err = enhance(*arguments, "--overwrite")
    assert code == 2 and f"{name}: already exists and is not a result" in err[-2]
    assert (tmp_path / "out" / name).read_text() == "mine" and not (tmp_path / "out" / "a.png").exists()


def test_a_report_replaces_no_other_file(enhance, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    code, out, err = enhance(photos, "-o", tmp_path / "out", "--report", "--overwrite")
    assert (code, out) == (2, []) and "report.html: already exists and is not a result" in err[-1]
    assert contents(tmp_path / "out") == {"report.html": b"mine"}


def test_empty_arguments_are_no_folders(enhance, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    before = contents(photos)
    for arguments in ("", "-o", tmp_path / "out"), ("a.png", "-o", ""), ("", "-o", "", "--overwrite"):
        code, out, err = enhance(*arguments)
        assert (code, out, len(err)) == (2, [], 1) and "'': an argument is empty" in err[0]
    assert contents(photos) == before and not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_two_calls_at_once_lose_nothing(checkpoint, tmp_path, options):
    for n in range(12):
        picture(tmp_path / "one" / f"{n}.png", (300, 200), n)
        picture(tmp_path / "two" / f"{n + 6}.png", (300, 200), 100 + n)
    before = contents(tmp_path)
    arguments = ("-o", tmp_path / "out", "--checkpoint", checkpoint, "--jobs", 2, *options)
    calls = [start(tmp_path / name, *arguments) for name in ("one", "two", "one")]
    said = [call.communicate(timeout=120)[1] for call in calls]
    out = {f"out/{name}": content for name, content in contents(tmp_path / "out").items()}
    assert out.keys() == {f"out/{n}.png" for n in range(18)} and contents(tmp_path) == before | out, said
    assert not any("Traceback" in lines for lines in said)
    for n in range(18):
        assert Image.open(tmp_path / "out" / f"{n}.png").size == (300, 200)


def test_only_what_changed_is_made_again(enhance, photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    enhance(photos, "-o", out)
    with open(out / "cliplit-enhance.jsonl", "a") as file:
        file.write('{"name": "torn')
    monkeypatch.setattr(batch, "read_photo", None)
    assert "0 photos enhanced; 7 were already done" in enhance(photos, "-o", out)[2][-1]
    monkeypatch.undo()
    picture(photos / "a.png", seed=99)
    (out / "b.webp").unlink()
    code, _, err = enhance(photos, "-o", out, "--overwrite")
    assert code == 0 and "2 photos enhanced; 5 were already done" in err[-1]
    assert "7 were already done" in enhance(photos, "-o", out)[2][-1]
    code, _, err = enhance(photos, "-o", out, "--strength", 2)
    assert code == 2 and "0 photos enhanced" in err[-1] and any("already exists" in line for line in err)
    assert "7 photos enhanced" in enhance(photos, "-o", out, "--strength", 2, "--overwrite")[2][-1]


def test_quality_of_lossy_formats(enhance, tmp_path):
    photos = tmp_path / "photos"
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 99, (9, 12, 3), np.uint8)).resize((240, 180))
    for quality, sampling in ((60, "4:2:0"), (90, "4:4:4")):
        smooth.save(picture(photos / f"{quality}.jpg"), quality=quality, subsampling=sampling)
    for name in ("a.png", "a.webp", "a.avif", "a.heic"):
        cliplit.write_image(smooth, photos / name)
    sizes = {}
    for quality in (0, 30, 75):
        out = tmp_path / f"{quality}"
        assert enhance(photos, "-o", out, *(("--quality", quality) if quality else ()))[0] == 0
        sizes[quality] = {path.name: path.stat().st_size for path in out.glob("*.*[!l]")}
        for own in (60, 90):
            same, made = (Image.open(folder / f"{own}.jpg") for folder in (photos, out))
            wanted = io.BytesIO()
            smooth.save(wanted, "JPEG", quality=quality or own)
            assert made.quantization == Image.open(wanted).quantization and made.layer == same.layer  # and sampling
    assert sizes[30]["a.png"] == sizes[0]["a.png"]
    for name in sizes[0].keys() - {"a.png"}:
        assert sizes[30][name] < sizes[75][name] and sizes[30][name] < sizes[0][name]
    assert sizes[0]["90.jpg"] < 1.5 * (photos / "90.jpg").stat().st_size
    assert "6 were already done" in enhance(photos, "-o", tmp_path / "75", "--quality", 75)[2][-1]
    code, _, err = enhance(photos, "-o", tmp_path / "75", "--quality", 30)
    assert code == 2 and err[-1] == "0 photos enhanced; 6 problems"
    assert "6 photos enhanced" in enhance(photos, "-o", tmp_path / "75", "--quality", 30, "--overwrite")[2][-1]
    assert contents(tmp_path / "75") == contents(tmp_path / "30")
    assert enhance(photos / "a.png", "-o", tmp_path / "b.jpg")[0] == 0
    with Image.open(tmp_path / "b.jpg") as image:
        wanted = io.BytesIO()
        smooth.save(wanted, "JPEG", quality=95)
        assert image.quantization == Image.open(wanted).quantization


@pytest.mark.parametrize("quality", [-1, 101, "high", 7.5])
def test_quality_out_of_range(enhance, photos, tmp_path, quality):
    code, out, err = enhance(photos, "-o", tmp_path / "out", "--quality", quality)
    assert (code, out) == (2, []) and "quality" in err[-1] and not (tmp_path / "out").exists()


def test_the_quality_of_a_jpeg(tmp_path):
    for quality in (*range(20, 100), 10, 100):
        Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg", quality=quality)
        assert abs(jpeg_quality(tmp_path / "a.jpg") - quality) <= (0 if 20 <= quality < 100 else 5)
    (tmp_path / "a.jpg").write_bytes(b"no JPEG")
    assert jpeg_quality(tmp_path / "a.jpg") == 0


@pytest.mark.parametrize("name", ["x.pdf", "x.jgp", "x.PSD", "x.mp4", "x.json"])
def test_an_out_of_a_format_that_is_not_written(enhance, photos, tmp_path, name):
    for given in photos, photos / "a.png":
        code, out, err = enhance(given, "-o", tmp_path / name)
        assert (code, out, len(err)) == (2, [], 1) and not (tmp_path / name).exists()
        assert err[0].startswith(f"cliplit: error: {tmp_path / name}: cannot write this format; use one of .jpg, ")
        assert err[0].endswith(f", or a folder ({tmp_path / name}/)")
    assert enhance(photos / "a.png", "-o", f"{tmp_path / name}/")[0] == 0  # as that line says
    assert (tmp_path / name / "a.png").is_file()
    assert "1 was already done" in enhance(photos / "a.png", "-o", tmp_path / name)[2][-1]  # now it is a folder


@pytest.mark.parametrize("name", ["2026.12.01", "0.7", "x.v2", "x.originals", ".out"])
def test_folders_with_a_dot(enhance, photos, tmp_path, name):
    assert enhance(photos / "a.png", "-o", tmp_path / name)[0] == 0 and (tmp_path / name / "a.png").is_file()


def test_standard_output_is_refused(enhance, photos, monkeypatch):
    monkeypatch.chdir(photos)
    before = contents(photos)
    code, out, err = enhance("a.png", "-o", "-")
    assert (code, out, len(err)) == (2, [], 1) and "-o -: results cannot go to standard output" in err[0]
    assert contents(photos) == before and not (photos / "-").exists()


@pytest.mark.parametrize("change", ["content", "size", "time"])
def test_a_photo_that_changes_while_it_is_read(enhance, photos, tmp_path, monkeypatch, change):
    read = batch.read_photo
    photo = photos / "a.png"

    def edited(path, max_pixels):
        found = read(path, max_pixels)
        if path == photo:
            content = path.read_bytes()
            path.write_bytes(content[:-1] + b"x" if change == "content" else content + b"x" * (change == "size"))
            os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(batch, "read_photo", edited)
    code, _, err = enhance(photos, "-o", tmp_path / "out")
    if change == "time":
        assert code == 0 and (tmp_path / "out" / "a.png").is_file()
        return
    assert code == 2 and err[-2] == f"  {photo}: changed while it was read; run the same command again"
    assert not (tmp_path / "out" / "a.png").exists() and not partial(tmp_path) and photo.read_bytes().endswith(b"x")
    assert "6 photos enhanced; 1 problem" in err[-1]


def test_side_files(enhance, tmp_path):
    source = picture(tmp_path / "a.png", (400, 300))
    options = ("--save-illumination", "--compare", "--strength", 0.5)
    assert enhance(source, "-o", tmp_path / "out", *options)[0] == 0
    map_ = np.asarray(Image.open(tmp_path / "out" / "a.png.illumination.png"))
    assert map_.dtype == np.uint16 and map_.shape == (300, 400)
    before, after = (np.asarray(Image.open(path)) / 255 for path in (source, tmp_path / "out" / "a.png"))
    expected = (before / (map_ * MAP_STEP)[..., None] ** 0.5).clip(0, 1)
    assert np.abs(expected - after).max() <= 0.51 / 255 + MAP_STEP
    with Image.open(tmp_path / "out" / "a.png.compare.jpg") as both:
        assert both.size == (808, 300)
        left, right = np.split(np.asarray(both.convert("RGB")) / 255, [404], axis=1)
    assert np.abs(left[:, :400] - before).mean() < np.abs(right[:, 4:] - before).mean()


def test_the_report_stands_alone(enhance, photos, tmp_path):
    (photos / "<b>.jpg").write_text("no photo")
    code, _, err = enhance(photos, "-o", tmp_path / "out", "--report")
    page = (tmp_path / "out" / "report.html").read_text()
    assert code == 2 and any("report.html" in line for line in err)
    assert page.count('type="range"') == 7 and page.count("data:image/jpeg;base64,") == 14
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|@import|https?:""", page)
    assert "&lt;b&gt;.jpg" in page and "<b>.jpg" not in page and "7 photos, 1 not enhanced" in page
    again = enhance(photos, "-o", tmp_path / "out", "--report")  # from what was already done
    assert again[0] == 2 and (tmp_path / "out" / "report.html").read_text() == page


def test_a_report_needs_a_folder(enhance, photos):
    code, _, err = enhance(photos / "a.png", "-o", photos / "new.png", "--report")
    assert code == 2 and len(err) == 1 and "--report needs a folder" in err[0]


def test_the_shipped_enhancer_is_the_default(cli, photos, tmp_path, checkpoint, monkeypatch):
    from cliplit_photos import inference

    monkeypatch.setattr(inference, "SHIPPED_ENHANCER", checkpoint)
    code, _, err = cli("enhance", photos / "a.png", "-o", tmp_path / "out")
    assert code == 0 and err[0].startswith(f"enhancer {checkpoint} (the default")
    monkeypatch.setattr(inference, "SHIPPED_ENHANCER", tmp_path / "none.safetensors")
    code, _, err = cli("enhance", photos / "a.png", "-o", tmp_path / "again")
    assert code == 2 and len(err) == 1 and "none.safetensors" in err[0] and "--checkpoint" in err[0]


def test_sizes():
    assert [parse_size(text) for text in ("512M", "1G", "1.5k", "77")] == [1 << 29, 1 << 30, 1536, 77]
    for text in ("", "G", "-1G", "much", "infG"):
        with pytest.raises(CliplitError, match="--max-memory"):
            parse_size(text)


def test_large_photos_wait_for_room():
    room = batch.Room(100)
    with room.taken(60), room.taken(40):
        assert room._used == 100
    with room.taken(1000):  # more than there is: alone
        assert room._used == 1000
    assert room._used == 0


def start(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "cliplit", "enhance", *map(str, arguments)]
    options["env"] = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)


def wait_for(found, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_at_once_and_goes_on(enhance, checkpoint, tmp_path, sent, code):
    photos = tmp_path / "photos"
    out = tmp_path / "out"
    for n in range(8):
        picture(photos / f"{n}.png", (200, 200), n)
    Image.new("RGB", (9000, 6000), "gray").save(photos / "9.png")  # is under way for seconds
    process = start(photos, "-o", out, "--checkpoint", checkpoint, "--jobs", 2)
    wait_for(lambda: (out / "0.png").exists(), process)
    began = time.monotonic()
    process.send_signal(sent)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code and time.monotonic() - began < 30
    assert "interrupted; run the same command again" in said and "Traceback" not in said and not partial(out)
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert 0 < len(done) < 9
    picture(photos / "9.png")
    assert enhance(photos, "-o", out)[0] == 0
    assert all(path.stat().st_mtime_ns == then for path, then in done.items()) and len(list(out.glob("*.png"))) == 9


def test_two_hundred_files_a_tenth_of_them_bad_and_a_run_that_is_killed(enhance, checkpoint, tmp_path):
    photos = tmp_path / "photos"
    out = tmp_path / "out"
    kinds = ("jpg", "png", "webp", "bmp", "tif")
    for n in range(200):
        path = photos / f"{n % 3}" / f"{n:03d}.{kinds[n % 5]}"
        picture(path, (60 + n % 7, 50 + n % 11), n, "RGBA" if n % 10 == 1 else "RGB")
        if n % 10 == 3:
            path.write_bytes((b"", b"text", path.read_bytes()[: path.stat().st_size // 2])[n // 10 % 3])
    bad = {path.name for path in photos.rglob("*3.*")}
    arguments = (photos, "-o", out, "--recursive", "--jobs", 1)

    process = start(*arguments, "--checkpoint", checkpoint)
    wait_for(lambda: len(list(out.rglob("*.*g"))) > 20, process)
    process.kill()
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix[1:] in kinds}
    assert 20 < len(done) < 180

    code, _, err = enhance(*arguments)
    listed = {Path(line.split(":")[0]).name for line in err if line.startswith("  ")}
    assert code == 2 and listed == bad and len(bad) == 20 and "20 problems" in err[-1]
    results = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    assert {path.relative_to(out) for path in results} == {
        path.relative_to(photos) for path in photos.rglob("*.*") if path.name not in bad
    }
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())
    assert f"{180 - len(done)} photos enhanced; {len(done)} were already done" in err[-1]
    assert enhance(photos, "-o", tmp_path / "whole", "--recursive")[0] == 2
    assert contents(tmp_path / "whole") == contents(out)


def test_several_processes_share_a_folder(enhance, checkpoint, photos, tmp_path):
    (photos / "bad.jpg").write_text("no photo")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = (photos, "-o", tmp_path / "out", "--recursive", "--report", "--checkpoint", checkpoint)
    done = subprocess.run(
        [*torchrun, "-m", "cliplit", "enhance", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert "8 photos enhanced; 1 problem; 1 other file ignored" in done.stderr, done.stderr
    ledgers = [(tmp_path / "out" / f"cliplit-enhance{part}.jsonl").read_text().splitlines() for part in ("", ".1")]
    assert list(map(len, ledgers)) == [5, 4] and json.loads(ledgers[1][0])["name"]
    assert json.loads(ledgers[0][-1])["name"] == "report.html"
    assert enhance(photos, "-o", tmp_path / "alone", "--recursive", "--report")[0] == 2
    assert contents(tmp_path / "alone") == contents(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the operating system does not tell")
def test_a_hundred_megapixels_in_bounded_memory(tmp_path):
    small = Enhancer(width=8, downscale=8, max_illumination=1.5).initialize(1)
    save_enhancer(small, tmp_path / "quick.safetensors", SMOKE, "enhancer0", 1)
    ramp = np.linspace(0, 255, 10_000).astype(np.uint8)
    pixels = np.empty((10_000, 10_000, 3), np.uint8)
    pixels[..., 0] = ramp[:, None]
    pixels[..., 1] = ramp
    pixels[..., 2] = ramp[::-1, None]
    tifffile.imwrite(tmp_path / "large.tif", pixels, photometric="rgb")
    command = [sys.executable, "-m", "cliplit", "enhance", tmp_path / "large.tif", "-o", tmp_path / "out"]
    command += ["--checkpoint", tmp_path / "quick.safetensors"]
    # Started from a small process: a child begins with its parent's peak.
    watch = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
    watch += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    told = subprocess.run([sys.executable, "-c", watch, *map(str, command)], check=True, capture_output=True, text=True)
    result = tifffile.imread(tmp_path / "out" / "large.tif")
    assert result.shape == pixels.shape and (result != pixels).any()
    assert int(told.stdout) * (1 if sys.platform == "darwin" else 1024) < MOST_MEMORY


def test_a_card_of_a_photo_that_is_gone_says_so(tmp_path):
    jobs = plan_jobs([picture(tmp_path / "a.png")], tmp_path / "out").jobs
    assert "out/a.png: no such file" in page.report_page(jobs, [], {})
