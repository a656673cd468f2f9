"""The long search by hand counts what it tried."""

import subprocess
import sys
from pathlib import Path

from tests.fuzz.__main__ import count

ROOT = Path(__file__).resolve().parents[2]


def test_the_examples_of_a_round_are_counted() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-show-statistics"]
    test = "tests/fuzz/test_streams.py::test_session_descriptions"
    done = subprocess.run([*command, test], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert count(done.stdout) >= 200
