"""Split photos into those for training and those held out."""

from pathlib import Path

from PIL import Image, ImageStat

from cliplit.files.folders import list_images

HELD_OUT = 8  # one photo in so many is held out, in each folder by order of names
LUMA = (0.28, 0.80)  # range of the mean luma of photos in good light, without night scenes and line drawings
THUMBNAIL = 128  # pixels, size at which it is measured
# In CID22: diagrams, drawings, posters, abstract pictures. In GB82: scenes of a computer game.
NO_PHOTOS = frozenset(
    [
        "1454613116",
        "14768480444_bc0a1b4a2e_o",
        "1536017106",
        "1910225",
        "21169144185_3f7977cb5a_o",
        "2156881",
        "2387532",
        "2471234",
        "26103251787_d8635e260d_o",
        "35875869841_0b10e41e57_o",
        "3DPieChart",
        "962312",
        "Abstract-Art-1",
        "AgilityCourseElements",
        "Beam-Space-Processing",
        "Boxplot",
        "EPICA_Delta_D_Plot",
        "Lungs-Cross-Section-Illustration",
        "No-interference",
        "Performance-Graph",
        "StockQuoteGraph-20120521",
        "Temperament-pie-chart-according-to-Eysenck",
        "Verkehrstote_Deutschland_1953-2012",
        "adriankierman-report-page",
        "akfcrc022",
        "klepas-Gentle-giants-of-the-sea-3",
        "newplot",
        "newplot__1_",
        "nicubunu_Game_baddie_Policeman",
        "ularapi_Semarang_City_Logo",
        "mc1-lossless",
        "mc2-lossless",
        "mc3-lossless",
    ]
)

LICENCES = {  # as stated by the sources of the photos
    "cid22": "CC BY-SA 4.0",
    "clic": "Unsplash licence",
    "gb82": "public domain",
    "kodak": "stated unrestricted",
    "bsds_train": "for research only",
    "imagenet_samples": "for research only",
}


def described(folders: list[Path]) -> str:
    """The names of the folders with their licences."""
    return ", ".join(f"{folder.name} ({LICENCES.get(folder.name, 'licence unknown')})" for folder in folders)


def split(folders: list[Path]) -> tuple[list[Path], list[Path]]:
    """Well-lit photos of the folders: training photos and held-out photos."""
    training: list[Path] = []
    held_out: list[Path] = []
    for folder in folders:
        files = [file for file in list_images(folder) if is_well_lit_photo(file)]
        training += [file for n, file in enumerate(files) if n % HELD_OUT]
        held_out += files[::HELD_OUT]
    return training, held_out


def is_well_lit_photo(file: Path) -> bool:
    """Whether a file is a photo in good light, by its name and its mean luma."""
    if file.stem in NO_PHOTOS:
        return False
    with Image.open(file) as image:
        image.draft("L", (THUMBNAIL, THUMBNAIL))
        mean = ImageStat.Stat(image.convert("L").resize((THUMBNAIL, THUMBNAIL))).mean[0] / 255
    return LUMA[0] <= mean <= LUMA[1]
