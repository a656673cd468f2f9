"""nomad.ports.records: short names for people, and every port is there under `nomad.ports`."""

from __future__ import annotations

from nomad import ports
from nomad.ports import PolicyView, records


def test_a_policy_has_a_short_name() -> None:
    assert PolicyView("7", "0123456789abcdef" * 4).short_sha == "0123456789ab"


def test_the_page_of_seams_names_them_all() -> None:
    own = {name: each for name, each in vars(records).items() if getattr(each, "__module__", "") == records.__name__}
    assert own
    assert all(getattr(ports, name) is each for name, each in own.items())
