"""Archives: unpacked whole, or refused in one line with nothing left behind."""

import bz2
import io
import stat
import struct
import tarfile
import zipfile
import zlib

import pytest

from cliplit.errors import CliplitError
from cliplit.files import web
from cliplit.files.web import Refused, extract

FILES = {"set/a.png": b"first", "set/deep/b.png": b"second" * 100, "readme.txt": b"words"}


def make_zip(path, files, link="", encrypted=False):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo("link")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, link)
    if encrypted:  # the flag alone
        content = path.read_bytes()
        at = content.index(b"PK\x01\x02")
        path.write_bytes(content[: at + 8] + b"\x01" + content[at + 9 :])
    return path


def make_tar(path, files, link="", kind=tarfile.SYMTYPE):
    with tarfile.open(path, "w:" + path.suffix[1:].replace("tar", "")) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("link")
            info.type = kind
            info.linkname = link
            archive.addfile(info)
    return path


def zip_bomb(path, gigabytes=10):
    """A zip of ten members that unpack to a gigabyte of zeros each."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = packed * (10**9 // (1 << 20)) + packer.flush()
    parts = []
    directory = []
    for n in range(gigabytes):
        name = f"{n}.png".encode()
        offset = sum(map(len, parts))
        common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(data), 10**9, len(name), 0)
        parts += [b"PK\x03\x04" + common + name, data]
        directory.append(b"PK\x01\x02\x14\x00" + common + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name)
    start = sum(map(len, parts))
    listed = b"".join(directory)
    end = struct.pack("<HHHHIIH", 0, 0, gigabytes, gigabytes, len(listed), start, 0)
    path.write_bytes(b"".join(parts) + listed + b"PK\x05\x06" + end)
    return path


def tar_bomb(path):
    """A few kilobytes that unpack to 10 GB of zeros."""
    info = tarfile.TarInfo("zeros.png")
    info.size = 10**10
    zeros = bz2.compress(bytes(10**8))
    path.write_bytes(bz2.compress(info.tobuf(format=tarfile.GNU_FORMAT)) + zeros * 100)
    return path


def refusal(archive, tmp_path) -> str:
    before = {path for path in tmp_path.parent.rglob("*")}
    with pytest.raises(CliplitError) as error:
        extract(archive, tmp_path / "out")
    assert {path for path in tmp_path.parent.rglob("*")} == before
    line = str(error.value)
    assert "\n" not in line and str(archive) in line
    return line


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_round_trip(tmp_path, name):
    archive = (make_zip if name.endswith("zip") else make_tar)(tmp_path / name, FILES)
    folder = extract(archive, tmp_path / "out")
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    assert [path.name for path in tmp_path.iterdir() if path != archive] == ["out"]


def test_what_file_managers_leave_is_left_out(tmp_path):
    extract(
        make_zip(tmp_path / "a.zip", FILES | {"__MACOSX/set/._a.png": b"x", "set/.DS_Store": b"x"}), tmp_path / "out"
    )
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == len(FILES)


@pytest.mark.parametrize("make, suffix", [(make_zip, "zip"), (make_tar, "tar")])
@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "set/../../evil.png", "C:\\evil.png", "..\\evil.png"])
def test_paths_that_lead_out(tmp_path, make, suffix, name):
    assert "leads out of the folder" in refusal(make(tmp_path / f"a.{suffix}", FILES | {name: b"x"}), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices(tmp_path, kind):
    assert "is a link or a device" in refusal(make_tar(tmp_path / "a.tar", FILES, "set/a.png", kind), tmp_path)


def test_links_in_zips(tmp_path):
    assert "'link' is a link" in refusal(make_zip(tmp_path / "a.zip", FILES, "/etc/passwd"), tmp_path)


@pytest.mark.parametrize("make, name", [(zip_bomb, "bomb.zip"), (tar_bomb, "bomb.tar.bz2")])
def test_ten_gigabytes_of_zeros(tmp_path, make, name):
    assert "would become" in refusal(make(tmp_path / name), tmp_path)


def test_more_than_photos_need(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "MOST_FILES", 2)
    assert "over 2 files" in refusal(make_zip(tmp_path / "a.zip", FILES), tmp_path)
    monkeypatch.setattr(web, "MOST_BYTES", 100)
    assert "more than photos need" in refusal(make_tar(tmp_path / "a.tar", FILES), tmp_path)


def test_a_member_that_is_larger_than_it_says(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.png": bytes(5000)})
    content = archive.read_bytes()
    archive.write_bytes(content.replace(struct.pack("<I", 5000), struct.pack("<I", 50)))
    refusal(archive, tmp_path)


def test_encrypted(tmp_path):
    assert "encrypted; unpack it by hand" in refusal(make_zip(tmp_path / "a.zip", FILES, encrypted=True), tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_truncated(tmp_path, name, share):
    noise = {f"{n}.png": zlib.compress(bytes(range(256)) * n)[2:] for n in range(1, 60)}
    archive = (make_zip if name.endswith("zip") else make_tar)(tmp_path / name, noise)
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(Refused, match="damaged"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_byte(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.png": bytes(range(256)) * 50})
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    refusal(archive, tmp_path)


def test_a_name_for_a_file_and_a_folder_and_names_that_are_there_twice(tmp_path):
    assert "both file and folder" in refusal(make_tar(tmp_path / "a.tar", {"a": b"x", "a/b": b"x"}), tmp_path)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("same.png"))
    assert "several members are named 'same.png'" in refusal(tmp_path / "b.tar", tmp_path)
