"""The people of the tests; deploy/slapd/sample_tree.py makes the crowd, and writes how a directory stores them.

Each stands for one way in which a real directory keeps secrets; the passwords are LOGIN-secret.
"""

from __future__ import annotations

from deploy.slapd.sample_tree import (
    ALGORITHMS,
    BASE,
    DOMAIN,
    GROUPS,
    SERVICE_DN,
    SERVICE_PASSWORD,
    Person,
    crowd,
    group_dn,
    ldif,
    ssha,
)  # fmt: skip

__all__ = (
    "ALGORITHMS", "BASE", "DOMAIN", "GROUPS", "SERVICE_DN", "SERVICE_PASSWORD", "Person", "crowd", "group_dn", "ldif",
    "ssha",
)  # fmt: skip

ALICE = Person("alice", "Alice", "Martin", "3001")
BOB = Person("bob", "Bob", "Durand", "3002", clear=False, ha1=True)
CAROL = Person("carol", "Carol", "Petit", "3003", groups=("staff", "visitors"), ha1=True, policy_groups=("night",))
DORA = Person("dora", "Dora", "Blanc", "3004", disabled=True)
ERIN = Person("erin", "Erin", "Noir", "3005", clear=False)  # SSHA only: no digest can be checked
SAMPLE = (ALICE, BOB, CAROL, DORA, ERIN)
