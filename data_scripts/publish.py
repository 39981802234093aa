"""Copy figures, tables of studies, notebooks and manifest of a finished run, without absolute paths.

python data_scripts/publish.py RUN OUTPUT
"""

import shutil
import sys
from pathlib import Path

from cliplit.errors import CliplitError
from cliplit.experiments.notebooks import notebooks_folder
from cliplit.experiments.studies import every_study
from cliplit.files.atomic import write_text
from cliplit.method.run import Run

ROOT = Path(__file__).resolve().parent.parent
PICTURES = (".jpg", ".png")


def publish(run: Run, target: Path) -> list[Path]:
    """Copy a run to a folder and return the copies. Raises CliplitError if the run is not finished."""
    for stage in run.plan:
        run.folder(stage)
    if target.resolve() == run.path.resolve():
        raise CliplitError(f"{target}: this is the run itself; choose another folder")
    if (target / "notebooks").resolve() == notebooks_folder().resolve():
        raise CliplitError(f"{target}: executed copies would replace the notebooks; choose another folder")
    files = [run.path / "manifest.json", *run.path.glob("figures/[!.]*"), *run.path.glob("notebooks/*.ipynb")]
    files += [table for study in every_study(run.settings) for table in run.path.glob(f"tables/{study}.*")]
    copies = {target / file.relative_to(run.path): file for file in sorted(files)}
    for copy, file in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        if copy.suffix in PICTURES:
            shutil.copyfile(file, copy)
            continue
        text = file.read_text(encoding="utf-8")
        for above in (ROOT, notebooks_folder().parent, run.path.resolve().parent):
            text = text.replace(f"{above}/", "")
        write_text(text, copy)
    return [*copies]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    copied = publish(Run.open(sys.argv[1]), Path(sys.argv[2]))
    print(f"{len(copied)} files, {sum(path.stat().st_size for path in copied) / 1e6:.1f} MB in {sys.argv[2]}")
