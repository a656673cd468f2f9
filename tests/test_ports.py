"""nomad.ports: values that keep their secrets to themselves, and stay as they are."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from nomad import ports
from nomad.ports import Grant, Registration, Vouched, Whom


def test_secrets_are_not_shown() -> None:
    shown = repr(Vouched(Grant("alice"), "5ec3e7"))
    assert "alice" in shown
    assert "5ec3e7" not in shown


def test_an_order_without_attributes_is_about_nobody() -> None:
    assert Whom() == Whom("", "", "", "", ())


def test_nothing_stored_has_version_zero() -> None:
    assert Registration("alice").version == 0


def test_values_do_not_change() -> None:
    values = [each for each in vars(ports).values() if dataclasses.is_dataclass(each)]
    assert len(values) > 15
    for each in values:
        assert each.__dataclass_params__.frozen, each  # type: ignore[union-attr]  # what every dataclass has
    with pytest.raises(dataclasses.FrozenInstanceError):
        Grant("alice").user = "eve"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    "seam",
    [each for each in vars(ports).values() if getattr(each, "_is_protocol", False) and each is not ports.Console],
)
def test_a_seam_stays_small_and_says_what_it_wants(seam: type) -> None:
    methods = [name for name, each in vars(seam).items() if inspect.isfunction(each) and not name.startswith("_")]
    assert len(methods) <= 5, f"{methods}: split it, an adapter must be easy to write"
    assert all(getattr(seam, name).__doc__ for name in methods)
