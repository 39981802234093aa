"""The data sets of the paper and its successors: where they are, what they hold, whose they are.

Addresses and counts are those that the authors of CLIP-LIT and RAVE give in the notes on their code, and so are the
folders' names as far as they give them; those of BAID's test inputs are by analogy, those of LOL v1 its usual ones.
A folder is found by its exact name; nothing is guessed from a part of a name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cliplit.errors import CliplitError, did_you_mean


@dataclass(frozen=True)
class Location:
    """A file on the web, or a shared folder of Google Drive by its id; size in bytes and SHA-256 if published."""

    url: str = ""
    drive: str = ""
    bytes: int | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return self.url or f"https://drive.google.com/drive/folders/{self.drive}"


@dataclass(frozen=True)
class Subset:
    """The images of one role: their number, and what publishers call their folder.

    A published name is the end of a path; the first one that is there counts. `first_of`: the published name of a
    larger set, of which the first `count` images by name are taken.
    """

    role: str
    count: int
    published: tuple[str, ...]
    first_of: str = ""


@dataclass(frozen=True)
class DataSet:
    """A known data set.

    `sources`: names and locations, the first one by default. `numbered_copies`: "0152(2)" is a copy of "0152".
    """

    name: str
    title: str
    sources: Mapping[str, tuple[Location, ...]]
    subsets: tuple[Subset, ...]
    licence: str
    numbered_copies: bool = False


def find(name: str) -> DataSet:
    """The data set of a name.

    Raises:
        CliplitError: unknown; lists the valid ones.
    """
    if name not in CATALOG:
        raise CliplitError(f"unknown data set '{name}'; valid: {', '.join(CATALOG)}{did_you_mean(name, CATALOG)}")
    return CATALOG[name]


TEST_SETS = Location(drive="1tnZdCxmWeOXMbzXKf-V4HYI4rBRl90Qk")
TRAINING_SETS = Location(drive="1X1tawqmUsn69T24VmHSl_qmEFxGLzMf0")

BAID = DataSet(
    "baid",
    "BAID (Lv et al., BacklitNet, CVIU 2022), as CLIP-LIT used it",
    dict(authors=(TRAINING_SETS, TEST_SETS), rave=(Location(drive="14_OvT17bfoN-JEH0GTFD6bnKzjKmag_l"),)),
    (
        Subset("train_backlit", 380, ("BAID_380/resize_input", "BAID/train/backlit")),
        Subset("test_backlit", 368, ("BAID/test/resize_input", "test/resize_input", "BAID/test/input", "test/input")),
        Subset("test_reference", 368, ("BAID/test/resize_gt", "test/resize_gt", "BAID/test/gt", "test/gt")),
    ),
    "none stated with the download; ask its authors before any use beyond research",
    numbered_copies=True,
)
DIV2K = DataSet(
    "div2k",
    "DIV2K (Agustsson and Timofte, CVPRW 2017), 384 images",
    dict(
        authors=(TRAINING_SETS,),
        rave=(Location(drive="1PbWzGzxLF0OJMyA7zMj_Dd00UB_ulhb4"),),
        # size and SHA-256: TensorFlow Datasets, checksums of div2k
        official=(
            Location(
                "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
                bytes=3_530_603_713,
                sha256="9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335",
            ),
        ),
    ),
    (Subset("train_well_lit", 384, ("DIV2K_384", "DIV2K_train_HR", "DIV2K", "."), first_of="DIV2K_train_HR"),),
    "academic research only, by its publishers; rights in the photos remain with their owners",
)
BACKLIT300 = DataSet(
    "backlit300",
    "Backlit300 (Liang et al., CLIP-LIT, ICCV 2023), no references",
    dict(authors=(TEST_SETS,)),
    (Subset("test_backlit", 305, ("Backlit300", "Backlit300/input", ".")),),
    "none stated with the download; CLIP-LIT's code is under the S-Lab License (not for commercial use)",
)
LOL_V1 = DataSet(
    "lol-v1",
    "LOL v1 (Wei et al., RetinexNet, BMVC 2018), low light, as RAVE used it",
    dict(rave=(Location(drive="1ewmaFEVjKmzS8fLisSA7q_t1RbBdz6He"),)),
    (
        Subset("train_backlit", 485, ("our485/low",)),
        Subset("train_well_lit", 485, ("our485/high",)),
        Subset("test_backlit", 15, ("eval15/low",)),
        Subset("test_reference", 15, ("eval15/high",)),
    ),
    "none stated with the download; ask its authors before any use beyond research",
)
CATALOG = {data_set.name: data_set for data_set in (BAID, DIV2K, BACKLIT300, LOL_V1)}
