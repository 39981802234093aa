"""Which images serve for what in a run: from data sets (dataset.json) and from folders given directly."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cliplit.data.manifest import ROLES, has_manifest, read_manifest, shortened
from cliplit.errors import CliplitError
from cliplit.files.images import list_images
from cliplit.settings import Data

OPTIONS = {role: "--" + role.removeprefix("train_").replace("_", "-") for role in ROLES}
SETTINGS = {role: role.removeprefix("train_") for role in ROLES}  # names in cliplit.config.Data


@dataclass(frozen=True)
class Images:
    """The images of one role: their folder, files in the order of their names, and where they come from.

    `hashes` holds the SHA-256 that a dataset.json promises for each file; a plain folder promises nothing.
    """

    folder: str
    files: tuple[Path, ...]
    hashes: Mapping[Path, str]
    name: str = ""
    source: str = ""
    licence: str = ""


def images_by_role(data: Data) -> dict[str, Images]:
    """`gather_images` for a run, where roles must go together.

    Raises:
        CliplitError: also half of a pair of roles.
    """
    chosen = gather_images(data)
    sides = [chosen[role] for role in ("train_backlit", "train_well_lit") if role in chosen]
    if len(sides) == 1:
        raise CliplitError(
            f"--backlit and --well-lit go together: give both folders, or none for the embedded images; "
            f"there is only {sides[0].folder}"
        )
    if "test_reference" in chosen and "test_backlit" not in chosen:
        raise CliplitError("--test-reference needs --test-backlit, the folder of the images that it belongs to")
    return chosen


def gather_images(data: Data) -> dict[str, Images]:
    """The images of every role that settings give; a folder given directly goes before the data sets.

    Test images given directly bring their own references along, or have none.

    Raises:
        CliplitError: a role that two data sets have, a missing file, or a folder without images.
    """
    given = {role: getattr(data, setting) for role, setting in SETTINGS.items() if getattr(data, setting)}
    tests = {"test_backlit", "test_reference"} if "test_backlit" in given else set()
    chosen = _from_sets(data.sets, without={*given, *tests})
    if "test_backlit" in given and has_manifest(given["test_backlit"]):
        chosen |= {role: images for role, images in _from_set(given["test_backlit"]).items() if role in tests}
    chosen |= {role: images_of(folder, role) for role, folder in given.items()}
    return chosen


def images_of(folder: str | Path, role: str) -> Images:
    """The images that a folder has for a role: those that its dataset.json lists, or without one all of them.

    Raises:
        CliplitError: no such folder, no images for this role, or files that are missing.
    """
    if has_manifest(folder):
        if found := _from_set(str(folder)).get(role):
            return found
        raise CliplitError(f"{folder}: the data set has no {ROLES[role]} (role {role}); choose another {OPTIONS[role]}")
    return Images(str(folder), tuple(list_images(folder)), {})


def _from_sets(folders: tuple[str, ...], without: set[str]) -> dict[str, Images]:
    chosen: dict[str, Images] = {}
    for folder in folders:
        for role, images in _from_set(folder).items():
            if role in without:
                continue
            if role in chosen:
                raise CliplitError(
                    f"{chosen[role].folder} and {folder} both have {ROLES[role]} (role {role}); "
                    f"leave one out, or give their folder with {OPTIONS[role]}"
                )
            chosen[role] = images
    return chosen


def _from_set(folder: str) -> dict[str, Images]:
    manifest = read_manifest(folder)
    files = {role: {Path(folder) / image.path: image.sha256 for image in manifest.of(role)} for role in ROLES}
    missing = [str(path) for listed in files.values() for path in listed if not path.is_file()]
    if missing:
        raise CliplitError(
            f"{folder}: {len(missing)} of the data set's files are not there ({shortened(missing)}); make it again"
        )
    about = (manifest.name, manifest.source, manifest.licence)
    return {role: Images(folder, tuple(listed), listed, *about) for role, listed in files.items() if listed}
