"""Worker processes leave none behind: a Jupyter kernel waits half a minute for its children before it ends."""

import psutil
import pytest

from cliplit.engine.processes import workers
from cliplit.scoring.files import START


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


@pytest.mark.parametrize("start", sorted({"spawn", START}))
def test_no_process_is_left_of_them(start):
    before = children()
    with workers(2, start, int) as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
        assert children() != before
    assert children() == before


def test_nor_after_an_error():
    before = children()
    with pytest.raises(ZeroDivisionError), workers(1, "spawn", int) as pool:
        pool.submit(abs, -1).result()
        pool.submit(divmod, 1, 0).result()
    assert children() == before
