"""The page of a run: comparison with published results, claims, tables, pictures, settings, versions and times."""

from pathlib import Path
from typing import Any

from nbconvert.filters import markdown2html
from PIL import Image

from cliplit.experiments import report
from cliplit.figures.play import PAGES, data_uri, pairs
from cliplit.files.atomic import read_json, write_text
from cliplit.method.run import MANIFEST, Run
from cliplit.scoring.summary import markdown
from cliplit.settings import describe, shown


def write_page(run: Run) -> Path:
    """Write <run>/report.html and return its path. It contains its pictures, and links to notebooks and tables.

    Raises CliplitError if the run is not evaluated.
    """
    run.folder("evaluation")
    compared = report.comparison(run)
    tables = {name: markdown(table) for name, table in report.for_readers(report.run_tables([run])).items()}
    for file in sorted((run.path / "tables").glob("*.md")):  # tables of the studies
        tables.setdefault(file.stem, file.read_text(encoding="utf-8"))
    manifest = read_json(run.path / MANIFEST) or {}
    names = {"cliplit": "cliplit", "git": "revision", "python": "Python", "platform": "platform"}
    page = PAGES.get_template("page.html.jinja").render(
        run=run,
        verdict=report.reproduced(compared),
        compared=markdown2html(markdown(compared)) if len(compared) else "",
        tables={name: markdown2html(table.replace(r"\`", "`")) for name, table in tables.items()},  # show names as code
        pairs=pairs(run),
        chapters=_chapters(run),
        settings=[
            (row["name"], shown(row["value"]), shown(row["paper"]), row.get("unit", ""), row.get("about", ""))
            for row in describe(run.settings)
            if row["value"] != row["paper"]
        ],
        versions={name: manifest[key] for key, name in names.items() if manifest.get(key)}
        | manifest.get("packages", {}),
        seconds={stage: run.record(stage)["seconds"] for stage in run.finished()},
    )
    path = run.path / "report.html"
    write_text(page, path)
    return path


def _chapters(run: Run) -> dict[str, dict[str, Any]]:
    """Notebooks and figures of a run by number: `notebook`, its file if it was executed, and `figures`."""
    chapters: dict[str, dict[str, Any]] = {}
    for file in sorted((run.path / "notebooks").glob("*.ipynb")) + sorted((run.path / "figures").glob("*.*g")):
        number = file.stem.partition("_")[0] if file.stem[0].isdigit() else ""
        chapter = chapters.setdefault(number, {"notebook": "", "figures": []})
        if file.suffix == ".ipynb":
            chapter["notebook"] = file.name
            continue
        with Image.open(file) as image:
            size = [side * 3 // 4 for side in image.size]  # the size at which notebooks show it
        uri = data_uri(file.read_bytes(), file.suffix[1:].replace("jpg", "jpeg"))
        title = file.stem.removeprefix(f"{number}_").replace("_", " ")
        chapter["figures"].append({"title": title, "uri": uri, "size": size})
    return dict(sorted(chapters.items()))
