"""nomad.edge.policy.file: keys that the contract names stay what they are."""

import pytest

from nomad.config import ConfigError, decode
from nomad.edge.policy.file import PolicyFile


def test_a_limit_that_is_left_out_is_none() -> None:
    group = decode('[[group]]\nname = "a"\n', "p", PolicyFile).group[0]
    assert group.max_concurrent_calls is None
    assert group.forward is None
    assert not group.from_internet


def test_an_unknown_key_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"p:3: group\[0\]\.max_device: unknown key .*did you mean 'max_devices'"):
        decode('[[group]]\nname = "a"\nmax_device = 3\n', "p", PolicyFile)
