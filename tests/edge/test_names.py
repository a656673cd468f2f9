from __future__ import annotations

from nomad.edge.names import Names


def test_names_are_long_random_and_never_the_same() -> None:
    names = Names()
    assert len({names.branch() for _ in range(3000)}) == 3000
    assert names.branch().startswith("z9hG4bK")
    assert len(names.id()) == 24
    assert len(names.random(6)) == 6
