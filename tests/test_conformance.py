"""docs/conformance.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`(\w+(?:/\w+)+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize(
    "named", sorted(set(NAMED.findall((ROOT / "docs" / "conformance.md").read_text()))), ids="::".join
)
def test_named_test_exists(named: tuple[str, str]) -> None:
    file, name = named
    assert f"def {name}" in (ROOT / "tests" / file).read_text()
