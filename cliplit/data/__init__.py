"""Data: getting, verifying, preparing and synthesizing data sets, and the data stage of a run.

roles, manifest     which image serves for what: dataset.json, folders given directly
catalog, get        the data sets of the paper: where they are, how many images, whose
download, drive     files from the network, whole or not at all
archives            unpacked without surprises
verify              counts, readability, duplicates, pairs
prepare, synthesize data sets made of others, and of photos
stage               the data stage of a run
"""

from importlib import import_module
from typing import Any

# Public names and where they live; imported at first use, so that lists and refusals are quick.
_EXPORTS = {
    "TestImage": "stage",
    "TrainingImages": "stage",
    "prepare_data": "stage",
    "check_folders": "stage",
    "training_images": "stage",
    "test_images": "stage",
    "ROLES": "roles",
    "CATALOG": "catalog",
    "DataSet": "catalog",
    "Manifest": "manifest",
    "read_manifest": "manifest",
    "fetch": "download",
    "extract": "archives",
    "get_data_set": "get",
    "verify_folder": "verify",
    "prepare_data_set": "prepare",
    "synthesize_data_set": "synthesize",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'cliplit.data' has no attribute '{name}'")
    return getattr(import_module(f"cliplit.data.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
