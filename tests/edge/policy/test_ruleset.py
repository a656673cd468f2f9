"""nomad.edge.policy.ruleset: whose group is found, what a tariff costs."""

import pytest

from nomad.edge.policy import Tariff, compile_policy

RULES = compile_policy(
    """
[[group]]
name = "named"
match = { users = ["zoe"] }
[[group]]
name = "staff"
match = { ldap_group = ["cn=staff,dc=x", "cn=Faculty, dc=x"], filter_id = "staff" }
[[group]]
name = "gold"
match = { radius_class = "gold" }
[[group]]
name = "rest"
match = { default = true }
""",
    "p",
)


@pytest.mark.parametrize(
    ("user", "groups", "classes", "name"),
    [
        ("zoe", ("cn=staff,dc=x",), (), "named"),
        ("Zoe", ("cn=staff,dc=x",), (), "named"),  # a RADIUS server may give the name as it was typed
        ("amy", ("CN=Staff, DC=x",), (), "staff"),
        ("amy", ("cn=other", "cn=faculty,dc=x"), (b"gold",), "staff"),
        ("amy", ("STAFF",), (), "staff"),
        ("amy", (), (b"silver", b"gold"), "gold"),
        ("amy", (), (b"\xff",), "rest"),
    ],
)
def test_the_first_group_of_the_file_counts(
    user: str, groups: tuple[str, ...], classes: tuple[bytes, ...], name: str
) -> None:
    found = RULES.people.find(user, groups, classes)
    assert found is not None
    assert found.group.name == name


def test_nobody_is_in_no_group() -> None:
    assert compile_policy("", "p").people.find("amy", ("x",), (b"y",)) is None


def test_a_tariff() -> None:
    tariff = Tariff(setup=0.10, per_minute=0.30)
    assert tariff.cost(120) == pytest.approx(0.70)
    assert tariff.affords_s(0.70) == pytest.approx(120)
    assert tariff.affords_s(0.05) == 0
    assert Tariff(setup=1, per_minute=0).affords_s(0) is None
