"""Archives unpacked safely: nothing outside the target, no links, no bombs, and either all of it or nothing."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from cliplit.errors import CliplitError, one_line

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}  # what file managers leave behind
# What an archive of photos stays below. Photos hardly shrink: a high ratio means a bomb.
MOST_FILES = 200_000
MOST_BYTES = 200 * 10**9
MOST_RATIO = 100  # of all bytes unpacked to those of the archive
RATIO_FROM = 10**8  # bytes unpacked; below, the ratio does not matter
# What the libraries raise about damaged archives; OSError without a number: bz2
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, OSError)


class Refused(CliplitError):
    """The archive itself is at fault."""


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its name."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def extract(archive: Path, target: Path) -> Path:
    """Unpack a zip or tar archive into a new folder, which is there only if all went well.

    Raises:
        Refused: not such an archive, damaged, encrypted, or with members that an archive of photos does not have:
            paths that lead out of it, absolute paths, links and devices, or far more bytes than it can hold.
        OSError: it cannot be written, e.g. since the disk is full.
    """
    unpacked = target.with_name(f".{target.name}.partial")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(unpacked, _checked(zipped.infolist(), archive))
        else:
            with tarfile.open(archive) as tar:
                files = _checked(tar, archive)
                tar.fileobj.seek(tar.offset)  # an empty block ends an archive; tarfile does not mind if it is missing
                if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise Refused("damaged: it ends early")
                tar.extractall(unpacked, files, filter="data")
        os.replace(unpacked, target)
    except Refused as error:
        raise Refused(f"{archive}: not unpacked: {error}") from None
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = f"not a zip or tar archive, or a damaged one ({one_line(error)})"
        raise Refused(f"{archive}: not unpacked: {reason}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return target


def is_inside(path: str) -> bool:
    """Whether a relative path stays where it starts, on every system."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return bool(parts) and ".." not in parts and not path.startswith(("/", "\\")) and ":" not in parts[0]


def _checked(members: Iterable[Any], archive: Path) -> list[Any]:
    """The files worth unpacking. Stops at the first member that an archive of photos does not have."""
    files: dict[str, Any] = {}
    folders: set[str] = set()
    total = 0
    size = archive.stat().st_size
    for member in members:
        if isinstance(member, zipfile.ZipInfo):
            name, length, is_folder = member.filename, member.file_size, member.is_dir()
            is_file = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
            if member.flag_bits & 1:
                raise Refused("it is encrypted; unpack it by hand and give the folder with --from")
        else:
            name, length, is_folder, is_file = member.name, member.size, member.isdir(), member.isreg()
        if not (is_file or is_folder):
            raise Refused(f"'{name}' is a link or a device")
        if is_folder or JUNK & set(PurePosixPath(name).parts):
            continue
        if not is_inside(name):
            raise Refused(f"'{name}' leads out of the folder that it is unpacked to")
        if name in files:
            raise Refused(f"several members are named '{name}'")
        files[name] = member
        folders.update(map(str, PurePosixPath(name).parents))
        total += length
        if len(files) > MOST_FILES or total > MOST_BYTES:
            raise Refused(f"over {MOST_FILES} files or {MOST_BYTES / 1e9:.0f} GB, more than photos need")
        if total > RATIO_FROM and total > MOST_RATIO * size:
            raise Refused(f"{size / 1e6:.1f} MB would become {total / 1e9:.1f} GB or more")
    if both := files.keys() & folders:
        raise Refused(f"a member is both file and folder ({both.pop()})")
    return list(files.values())
