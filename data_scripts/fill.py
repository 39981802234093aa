"""Put tables into a document.

    python data_scripts/fill.py DOCUMENT TABLE.md...

NAME.md replaces the text between <!-- NAME --> and <!-- /NAME -->. A table without marks in the document is skipped.
"""

import argparse
from pathlib import Path


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("document", type=Path)
    options.add_argument("tables", type=Path, nargs="+")
    given = options.parse_args()
    fill_in(given.document, {table.stem: table.read_text(encoding="utf-8") for table in given.tables})


def fill_in(document: Path, texts: dict[str, str]) -> None:
    """Replace the text between the marks of every table that the document has.

    Raises:
        ValueError: the document has no marks for any table, or an opening mark without a closing one.
    """
    content = document.read_text(encoding="utf-8")
    filled = [name for name in texts if f"<!-- {name} -->\n" in content]
    if not filled:
        raise ValueError(f"{document}: no place for a table, such as <!-- {next(iter(texts))} --> and its end")
    for name in filled:
        before, start, rest = content.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not end:
            raise ValueError(f"{document}: <!-- {name} --> has no end <!-- /{name} -->; add it behind the table")
        content = before + start + texts[name] + end + after
    document.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
