"""The people of the tests, and how a directory stores them.

Each stands for one way in which a real directory keeps secrets; the passwords are LOGIN-secret.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

DOMAIN = "inria.example"
BASE = "dc=inria,dc=example"
SERVICE_DN = f"cn=nomad,{BASE}"
SERVICE_PASSWORD = "nomad-secret"
GROUPS = ("staff", "visitors")
ALGORITHMS = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the directory."""

    login: str
    first: str
    last: str
    extension: str
    groups: tuple[str, ...] = ("staff",)
    clear: bool = True  # userPassword in clear text; else SSHA
    ha1: bool = False  # digest HA1 sets for every algorithm and login form
    disabled: bool = False
    policy_groups: tuple[str, ...] = field(default=())

    @property
    def password(self) -> str:
        """What the person types."""
        return f"{self.login}-secret"

    @property
    def mail(self) -> str:
        """The mail address, which is also a SIP address."""
        return f"{self.first}.{self.last}@{DOMAIN}".lower()

    @property
    def dn(self) -> str:
        """The entry's name."""
        return f"uid={self.login},ou=people,{BASE}"

    def ha1_values(self, realm: str = DOMAIN) -> Iterator[str]:
        """Values of sipDigestHA1, see deploy/slapd/nomad-schema.ldif."""
        for user in (self.login, f"{self.login}@{DOMAIN}", self.mail):
            for algorithm, name in ALGORITHMS.items():
                ha1 = hashlib.new(name, f"{user}:{realm}:{self.password}".encode()).hexdigest()
                yield f"{algorithm}:{user}:{realm}:{ha1}"


ALICE = Person("alice", "Alice", "Martin", "3001")
BOB = Person("bob", "Bob", "Durand", "3002", clear=False, ha1=True)
CAROL = Person("carol", "Carol", "Petit", "3003", groups=("staff", "visitors"), ha1=True, policy_groups=("night",))
DORA = Person("dora", "Dora", "Blanc", "3004", disabled=True)
ERIN = Person("erin", "Erin", "Noir", "3005", clear=False)  # SSHA only: no digest can be checked
SAMPLE = (ALICE, BOB, CAROL, DORA, ERIN)


def crowd(count: int) -> Iterator[Person]:
    """Many people, half of them with HA1 sets only: u00000, u00001, ..."""
    for number in range(count):
        ha1 = number % 2 == 1
        yield Person(f"u{number:05d}", "User", f"N{number:05d}", f"{50000 + number}", clear=not ha1, ha1=ha1)


def ssha(password: str, salt: bytes = b"nomadsalt") -> str:
    """A salted SHA-1 userPassword, as directories store it."""
    digest = hashlib.sha1(password.encode() + salt).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def ldif(people: Iterable[Person]) -> str:
    """The whole tree as LDIF: organisation, service account, people and groups."""
    members: dict[str, list[str]] = {group: [] for group in GROUPS}
    entries = [
        [f"dn: {BASE}", "objectClass: organization", "objectClass: dcObject", "o: Inria", "dc: inria"],
        [f"dn: {SERVICE_DN}", "objectClass: organizationalRole", "objectClass: simpleSecurityObject"],
        [f"dn: ou=people,{BASE}", "objectClass: organizationalUnit", "ou: people"],
        [f"dn: ou=groups,{BASE}", "objectClass: organizationalUnit", "ou: groups"],
    ]
    entries[1] += ["cn: nomad", f"userPassword: {SERVICE_PASSWORD}"]
    for person in people:
        entries.append(_entry(person))
        for group in person.groups:
            members[group].append(person.dn)
    for group, dns in members.items():
        if dns:
            entries.append(
                [
                    f"dn: {group_dn(group)}",
                    "objectClass: groupOfNames",
                    f"cn: {group}",
                    *(f"member: {dn}" for dn in dns),
                ]
            )
    return "\n\n".join("\n".join(entry) for entry in entries) + "\n"


def group_dn(group: str) -> str:
    """The name of a group's entry."""
    return f"cn={group},ou=groups,{BASE}"


def _entry(person: Person) -> list[str]:
    password = person.password if person.clear else ssha(person.password)
    lines = [f"dn: {person.dn}", "objectClass: inetOrgPerson", "objectClass: sipPerson", f"uid: {person.login}"]
    lines += [f"cn: {person.first} {person.last}", f"displayName: {person.first} {person.last}", f"sn: {person.last}"]
    lines += [f"mail: {person.mail}", f"telephoneNumber: {person.extension}", f"userPassword: {password}"]
    lines += [f"sipDigestHA1: {value}" for value in (person.ha1_values() if person.ha1 else ())]
    lines += [f"sipPolicyGroup: {group}" for group in person.policy_groups]
    lines += [f"memberOf: {group_dn(group)}" for group in person.groups]  # the overlay only sees later changes
    if person.disabled:
        lines.append("sipDisabled: TRUE")
    return lines
