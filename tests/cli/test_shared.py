"""What the commands share."""

from cliplit.cli.shared import counted, joined


def test_numbers_of_things_and_parts_of_a_line():
    assert [counted(number, "photo") for number in (0, 1, 2)] == ["0 photos", "1 photo", "2 photos"]
    assert joined("one", None, "", "two") == "one; two" and joined() == ""
