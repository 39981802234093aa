"""Archives unpacked without surprises: nothing outside the target, no links, no bombs, all of it or nothing."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from cliplit.errors import CliplitError, one_line


class Refused(CliplitError):
    """The archive itself is at fault."""


SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}  # what file managers leave behind


@dataclass(frozen=True)
class Limits:
    """What an honest archive of photos stays below. Photos hardly shrink: a high ratio means a bomb."""

    files: int = 200_000
    bytes: int = 200 * 10**9
    ratio: float = 100.0  # of all bytes unpacked to those of the archive
    ratio_from: int = 10**8  # bytes unpacked below which the ratio does not matter


LIMITS = Limits()


@dataclass(frozen=True)
class Member:
    """A member of an archive: its name there, its size in bytes, how to open it if it is a file, and what it is."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    is_folder: bool
    regular: bool
    encrypted: bool = False


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its name."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def extract(archive: Path, target: Path, limits: Limits = LIMITS) -> Path:
    """Unpack a zip or tar archive into a new folder, which is there only if all went well.

    Raises:
        Refused: not such an archive, damaged, encrypted, or with members that an honest one does not have:
            paths that lead out of it, absolute paths, links and devices, or far more bytes than it can hold.
        CliplitError: no such file, or no room for what is in it.
    """
    unpacked = target.with_name(f".{target.name}.partial")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with _opened(archive, limits) as members:
            _check_space(archive, unpacked.parent, sum(member.size for member in members))
            for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file", leave=False):
                _write(member, unpacked / member.name, archive)
        unpacked.mkdir(parents=True, exist_ok=True)
        os.replace(unpacked, target)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return target


@contextmanager
def _opened(archive: Path, limits: Limits) -> Iterator[list[Member]]:
    """The regular files of an archive that is open, after a look at every member."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield _checked((_zip_member(zipped, info) for info in zipped.infolist()), archive, limits)
        else:
            with tarfile.open(archive) as tar:
                members = _checked((_tar_member(tar, info) for info in tar), archive, limits)
                _check_end(tar)
                yield members
    except FileNotFoundError:
        raise CliplitError(f"{archive}: no such file") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise _refusal(archive, f"not a zip or tar archive, or a damaged one ({one_line(error)})") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise _refusal(archive, f"a member is both file and folder ({Path(error.filename).name})") from None
    except OSError as error:
        if error.errno is None:  # bz2 says so of a damaged stream
            raise _refusal(archive, f"damaged ({one_line(error)})") from None
        raise


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    regular = kind in (0, stat.S_IFREG, stat.S_IFDIR)
    encrypted = bool(info.flag_bits & 1)
    return Member(info.filename, info.file_size, partial(archive.open, info), info.is_dir(), regular, encrypted)


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    regular = info.isreg() or info.isdir()
    return Member(info.name, info.size, partial(_open_in_tar, archive, info), info.isdir(), regular)


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"'{info.name}' has no content")
    return content


def _check_end(archive: tarfile.TarFile) -> None:
    """Look for the empty block at the end of a tar archive; tarfile does not mind if it is missing."""
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends early")


def _checked(members: Iterable[Member], archive: Path, limits: Limits) -> list[Member]:
    """The regular files worth unpacking. Stops at the first member that an honest archive does not have."""
    files: dict[str, Member] = {}
    total = 0
    size = archive.stat().st_size
    for member in members:
        if not member.regular:
            raise _refusal(archive, f"'{member.name}' is a link or a device")
        if member.encrypted:
            raise _refusal(archive, "it is encrypted; unpack it by hand and give the folder with --from")
        if member.is_folder and not member.name.strip("./"):
            continue
        if not is_inside(member.name) or "\0" in member.name:
            raise _refusal(archive, f"'{member.name}' leads out of the folder that it is unpacked to")
        if member.is_folder or JUNK & set(PurePosixPath(member.name).parts):
            continue
        if member.name in files:
            raise _refusal(archive, f"several members are named '{member.name}'")
        files[member.name] = member
        total += member.size
        if len(files) > limits.files or total > limits.bytes:
            raise _refusal(archive, f"over {limits.files} files or {limits.bytes / 1e9:.0f} GB, more than photos need")
        if total > limits.ratio_from and total > limits.ratio * size:
            raise _refusal(archive, f"{size / 1e6:.1f} MB would become {total / 1e9:.1f} GB or more")
    return list(files.values())


def _check_space(archive: Path, folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CliplitError(f"{archive}: needs {needed / 1e9:.1f} GB unpacked, {folder} has {free / 1e9:.1f} GB free")


def _write(member: Member, target: Path, archive: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, open(target, "xb") as file:
        left = member.size
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                break
            file.write(block)
    if left:
        raise _refusal(archive, f"'{member.name}' is not of the size that the archive says")


def _refusal(archive: Path, reason: str) -> Refused:
    return Refused(f"{archive}: not unpacked: {reason}")


def is_inside(path: str) -> bool:
    """Whether a relative path stays where it starts, on every system."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return bool(parts) and ".." not in parts and not path.startswith(("/", "\\")) and ":" not in parts[0]
