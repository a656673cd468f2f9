"""Who may call what: a policy file compiled to a ruleset, and the verdict on a call with the rules that led to it.

Pure: no sockets, no clock, no files. The live edge, `nomad policy explain` and the dry run ask the same `decide`.
"""

from nomad.edge.policy.compiler import TRANSPORTS, compile_policy, default_ruleset
from nomad.edge.policy.decide import decide, find_group
from nomad.edge.policy.numbers import EMERGENCY, clean
from nomad.edge.policy.places import Network, address_of
from nomad.edge.policy.ruleset import LOCAL, Group, Ruleset, Tariff
from nomad.edge.policy.verdict import NOTHING, Attempt, Direction, Step, Used, Verdict

__all__ = [
    "EMERGENCY",
    "LOCAL",
    "NOTHING",
    "TRANSPORTS",
    "Attempt",
    "Direction",
    "Group",
    "Network",
    "Ruleset",
    "Step",
    "Tariff",
    "Used",
    "Verdict",
    "address_of",
    "clean",
    "compile_policy",
    "decide",
    "default_ruleset",
    "find_group",
]
