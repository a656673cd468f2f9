"""nomad.ports.watch: the values stay as they are, and every port is there under `nomad.ports`."""

from __future__ import annotations

import dataclasses

import pytest

from nomad import ports
from nomad.ports import Deed, watch


def test_values_do_not_change() -> None:
    deed = Deed("guard", "ban", "192.0.2.1")
    assert deed == Deed("guard", "ban", "192.0.2.1", "", ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        deed.by = "nobody"  # type: ignore[misc]


def test_the_page_of_seams_names_them_all() -> None:
    own = {name: each for name, each in vars(watch).items() if getattr(each, "__module__", "") == watch.__name__}
    assert own
    assert all(getattr(ports, name) is each for name, each in own.items())
