from datetime import UTC

from nomad.edge.usage import Usage

NOON = 1_800_014_400.0


def test_seconds_add_up_and_start_again_at_midnight() -> None:
    usage = Usage(UTC)
    usage.add("alice", 60, NOON)
    usage.add("alice", 30, NOON + 60)
    assert usage.today("alice", NOON + 120) == 90
    assert usage.today("bob", NOON) == 0
    assert usage.midnight(NOON) <= NOON
    assert usage.today("alice", usage.midnight(NOON) + 86400) == 0
