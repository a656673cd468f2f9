"""nomad.edge.policy.verdict: what a verdict says of itself."""

from nomad.edge.policy import Step, Verdict

NOTES = (
    ("class", 3, "number {}: class {}", ("1", "{internal}")),
    ("group", 9, "user a: group b", ()),
    ("deny", 0, "nobody", ()),
)


def test_the_chain_is_told_long_and_short() -> None:
    verdict = Verdict(False, "b", "internal", "deny", "No", NOTES)
    assert verdict.chain[0] == Step("class", 3, "number 1: class {internal}")
    assert verdict.why == "number 1: class {internal} (line 3); user a: group b (line 9); nobody"
    assert verdict.short == "class:3 group:9 deny"
