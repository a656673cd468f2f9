"""nomad.edge.policy.lines: where keys and entries stand."""

from collections.abc import Iterator

import pytest

from nomad.edge.policy.lines import Lines

TEXT = """\
timezone = "Europe/Paris"  # [classes]
[classes]
national = [
    "0",  # ]
    "+33",
]
"premium" = ["089", "[x]"]
[[group]]
name = "a"
match = { users = ["x"] }
[[group]]
name = "b"
allow = ["national", "+4930"]
[group.match]
default = true
[tariffs.national]
per_minute = 1
"""


@pytest.mark.parametrize(
    ("path", "entry", "line"),
    [
        ("timezone", "", 1),
        ("classes", "", 2),
        ("classes.national", "", 3),
        ("classes.national", "0", 4),
        ("classes.national", "+33", 5),
        ("classes.national", "089", 3),  # not in this list
        ("classes.premium", "[x]", 7),
        ("group[0].name", "", 9),
        ("group[0].allow", "", 8),  # not given: the group
        ("group[1].allow", "+4930", 13),
        ("group[1].match", "", 14),
        ("tariffs.national", "", 16),
        ("tariffs.nowhere", "", 0),
        ("deny", "x", 0),
    ],
)
def test_where_things_stand(path: str, entry: str, line: int) -> None:
    assert Lines(TEXT).of(path, entry) == line


def test_a_long_list_is_read_once() -> None:
    """A list of 2,000 entries, one a line, held up the reload of an edge for two seconds."""
    steps = 0

    class Counted(str):
        def __iter__(self) -> Iterator[str]:
            nonlocal steps
            steps += 1
            return super().__iter__()

    lines = Lines("a = [\n" + "".join(f'"+{number}",\n' for number in range(2000)) + "]")
    lines._text = [Counted(line) for line in lines._text]
    assert [lines.of("a", f"+{number}") for number in range(2000)] == list(range(2, 2002))
    assert steps <= 2002


def test_an_empty_text_has_no_lines() -> None:
    assert Lines("").of("group[0].match") == 0
