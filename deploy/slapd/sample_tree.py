#!/usr/bin/env python3
"""A sample directory: organisation, service account of the RADIUS server, groups, and as many people as you want.

    python3 sample_tree.py --people 5000 > tree.ldif && slapadd -c -q -n 1 -F /etc/ldap/slapd.d -l tree.ldif

with slapd stopped, as the user that slapd runs as; -c passes over the organisation that Debian made.

Always the same for the same arguments. u00000 to u04999, passwords LOGIN-secret: every second one in clear text, the
others as SSHA with digest HA1 sets. For trials only. Needs nomad-schema.ldif, access.ldif and the memberOf overlay.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

DOMAIN = "inria.example"
BASE = "dc=inria,dc=example"
SERVICE_DN = f"cn=nomad,{BASE}"
SERVICE_PASSWORD = "nomad-secret"  # noqa: S105 - of a sample
GROUPS = ("staff", "visitors")
ALGORITHMS = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
VISITORS_EVERY = 10
FIRST_NAMES = (
    "Agathe Alain Amélie André Aude Basile Béatrice Benoît Camille Céline Chloé Clément Denis Diane Élise Émile "
    "Estelle Fabien Fanny François Gaëlle Gilles Hélène Hugo Inès Jean Jeanne Joël Judith Jules Karine Lucie "
    "Ludovic Maël Manon Marc Maxime Nadia Noémie Océane Olivier Paul Pauline Raphaël Rémi Sabine Solène Théo "
    "Valérie Zoé"
)
LAST_NAMES = (
    "Adam Albert Andre Antoine Arnaud Aubert Bailly Barbier Baron Benard Berger Bernard Bertrand Besson Blanc "
    "Blanchard Bonnet Boucher Boulanger Bourgeois Bouvier Boyer Breton Brun Brunet Carpentier Caron Charles "
    "Charpentier Chevalier Clement Collet Collin Cordier Cousin Daniel David Denis Deschamps Dubois Dufour Dumas "
    "Dumont Dupont Dupuis Durand Étienne Fabre Faure Fernandez Fleury Fontaine Fournier Gaillard Garnier Gauthier "
    "Gautier Gérard Germain Girard Giraud Grand Guérin Guillot Henry Hubert Huet Jacob Jacquet Joly Julien "
    "Lacroix Lambert Langlois Laurent Leblanc Leclerc Lefèvre Legrand Lemaire Leroux Leroy Lévêque Lucas Maillard "
    "Marchand Marie Masson Mathieu Mercier Meunier Meyer Michel Moreau Morel Morin Moulin Nicolas Noël Perrin"
)
FIRST, LAST = FIRST_NAMES.split(), LAST_NAMES.split()


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
        return f"{_plain(self.first)}.{_plain(self.last)}@{DOMAIN}".lower()

    @property
    def dn(self) -> str:
        """The entry's name."""
        return f"uid={self.login},ou=people,{BASE}"

    def ha1_values(self, realm: str = DOMAIN) -> Iterator[str]:
        """Values of sipDigestHA1, see nomad-schema.ldif."""
        for user in (self.login, f"{self.login}@{DOMAIN}", self.mail):
            for algorithm, name in ALGORITHMS.items():
                ha1 = hashlib.new(name, f"{user}:{realm}:{self.password}".encode(), usedforsecurity=False).hexdigest()
                yield f"{algorithm}:{user}:{realm}:{ha1}"


def crowd(count: int) -> Iterator[Person]:
    """Many people, half of them with HA1 sets only: u00000, u00001, ..."""
    for number in range(count):
        ha1 = number % 2 == 1
        families, place = divmod(number // len(FIRST), len(LAST))
        yield Person(
            f"u{number:05d}",
            FIRST[number % len(FIRST)],
            LAST[place] + (str(families + 1) if families else ""),
            f"{50000 + number}",
            groups=GROUPS if number % VISITORS_EVERY == 0 else GROUPS[:1],
            clear=not ha1,
            ha1=ha1,
        )


def ssha(password: str, salt: bytes = b"nomadsalt") -> str:
    """A salted SHA-1 userPassword, as directories store it."""
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def group_dn(group: str) -> str:
    """The name of a group's entry."""
    return f"cn={group},ou=groups,{BASE}"


def ldif(people: Iterable[Person]) -> str:
    """The whole tree as LDIF (RFC 2849): organisation, service account, people and groups."""
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
            lines = [f"dn: {group_dn(group)}", "objectClass: groupOfNames", f"cn: {group}"]
            entries.append([*lines, *(f"member: {dn}" for dn in dns)])
    return "\n\n".join("\n".join(entry) for entry in entries) + "\n"


def _entry(person: Person) -> list[str]:
    name = f"{person.first} {person.last}"
    password = person.password if person.clear else ssha(person.password)
    lines = [f"dn: {person.dn}", "objectClass: inetOrgPerson", "objectClass: sipPerson", f"uid: {person.login}"]
    lines += [_line("cn", name), _line("displayName", name), _line("sn", person.last)]
    lines += [f"mail: {person.mail}", f"telephoneNumber: {person.extension}", f"userPassword: {password}"]
    lines += [f"sipDigestHA1: {value}" for value in (person.ha1_values() if person.ha1 else ())]
    lines += [f"sipPolicyGroup: {group}" for group in person.policy_groups]
    lines += [f"memberOf: {group_dn(group)}" for group in person.groups]  # the overlay only sees later changes
    if person.disabled:
        lines.append("sipDisabled: TRUE")
    return lines


def _line(name: str, value: str) -> str:
    """A value with other letters than ASCII is written as Base64 (RFC 2849 2)."""
    return f"{name}: {value}" if value.isascii() else f"{name}:: {base64.b64encode(value.encode()).decode()}"


def _plain(name: str) -> str:
    """Without accents."""
    return unicodedata.normalize("NFD", name).encode("ascii", "ignore").decode()


def main() -> None:
    """Write the tree to standard output."""
    parser = argparse.ArgumentParser(description="A sample directory for slapd, as LDIF.")
    parser.add_argument("--people", type=int, default=5000, metavar="N")
    sys.stdout.write(ldif(crowd(parser.parse_args().people)))


if __name__ == "__main__":
    main()
