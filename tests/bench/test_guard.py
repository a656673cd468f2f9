from __future__ import annotations

import pytest

from bench import guard
from bench.flows import FLOWS, run


def test_ten_per_cent_more_is_found_and_less_is_not() -> None:
    before = {"call": 1000, "message": 1000, "registration": 1000}
    assert guard.compare(before, {"call": 1100, "message": 500, "registration": 1000}) == []
    (line,) = guard.compare(before, {"call": 1101, "message": 500, "registration": 1000})
    assert line.startswith("call: 1,101 thousand instructions, +10.1% against 1,000")


@pytest.mark.parametrize("flow", FLOWS)
def test_each_flow_runs_as_often_as_it_is_asked_to(flow: str) -> None:
    run({flow: 2})


def test_an_interpreter_without_numbers_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "interpreter", lambda: "another build")
    assert guard.main([]) == 0
    assert "nothing is compared" in capsys.readouterr().out
