"""The 5,000 people of the measurements: as LDIF for every directory, and as a user list for SIPp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

REALM = "inria.example"
BASE = "dc=inria,dc=example"
SERVICE_DN = f"cn=radius,ou=services,{BASE}"
SERVICE_PASSWORD = "bench-bind-secret"
POLICIES = ("staff", "student", "guest", "emeritus")
NUMBER = "6000"  # the extension that everybody calls

POLICY = """\
[classes]
emergency = ["15", "17", "18", "112"]
internal = ["re:[0-9]{4}"]
national = ["0", "+33"]
premium = ["089", "+3389"]
""" + "".join(
    f'\n[[group]]\nname = "{name}"\nmatch = {{ ldap_group = "{name}" }}\nallow = ["emergency", "internal"]\n'
    "max_concurrent_calls = 50\n"
    for name in POLICIES
)


def login(index: int) -> str:
    """The login of one of them."""
    return f"u{index:05d}"


def password(index: int) -> str:
    """The password that goes with it."""
    return f"pw-{login(index)}-{(index * 2654435761) & 0xFFFFFFFF:08x}"


def write_ldif(path: Path, people: int) -> None:
    """The directory, root and service account included."""
    path.write_text("\n".join(_entries(people)), encoding="ascii")


def write_users(path: Path, people: int, first: int = 0) -> None:
    """SIPp's injection file, from person `first` on, so that runs in a row take people whom no cache remembers."""
    lines = ["SEQUENTIAL"]
    for step in range(people):
        index = (first + step) % people
        name = login(index)
        lines.append(f"{name};{REALM};[authentication username={name} password={password(index)}]")
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _entries(people: int) -> Iterator[str]:
    yield f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: {REALM}\ndc: inria\n"
    for unit in ("people", "services"):
        yield f"dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}\n"
    yield (
        f"dn: {SERVICE_DN}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: radius\n"
        f"userPassword: {SERVICE_PASSWORD}\n"
    )
    for index in range(people):
        name = login(index)
        yield (
            f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: User {index:05d}\n"
            f"sn: {index:05d}\nmail: {name}@{REALM}\ntelephoneNumber: {10000 + index}\n"
            f"employeeType: {POLICIES[index % 4]}\nuserPassword: {password(index)}\n"
        )
