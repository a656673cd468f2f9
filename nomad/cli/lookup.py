"""`nomad lookup`: where an address, an extension, an ISN or an E.164 number would go, step by step.

The steps are those of the edge: its dial plan, its policy, its PBXs, and what a running edge says is registered. What
the edge does not do yet is said, not guessed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomad.cli.connection import AdminOption, JsonOption, connect
from nomad.cli.output import Failure, print_json, print_table, printable
from nomad.cli.service import DEFAULT_FILE, FileOption

if TYPE_CHECKING:
    from nomad.config import Config
    from nomad.edge.routing import Called
    from radius.ports import Person

ISN = re.compile(r"[0-9]+\*[0-9]+")  # ITAD Subscriber Number (RFC 3872): extension, star, number of the institute
E164 = re.compile(r"\+[0-9]{7,15}")
NOWHERE = "nowhere"
UNKNOWN = "phones that only a running edge knows"


@dataclass(slots=True)
class Looked:
    """What was found, step by step."""

    address: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    from_phone: str = NOWHERE  # where a call of a member's phone to the address goes
    from_pbx: str = NOWHERE  # and one of the PBX
    number: str = ""
    user: str = ""
    phones: list[str] = field(default_factory=list)

    def tell(self, step: str, text: str) -> None:
        """One more step."""
        self.steps.append((step, text))


def lookup(
    address: Annotated[str, typer.Argument(help="sip:first.last@institute, an extension, 1234*427, +33139635511.")],
    config: FileOption = DEFAULT_FILE,
    admin: AdminOption = "",
    as_json: JsonOption = False,
) -> None:
    """Where an address would go, step by step. Exit code 1 when nowhere."""
    from nomad import config as configuration

    loaded = configuration.load(config)
    registered = _registered(admin, loaded, config)
    looked = asyncio.run(_look(loaded, address, registered))
    if as_json:
        shown = asdict(looked)
        shown["steps"] = [{"step": step, "text": text} for step, text in looked.steps]
        print_json(shown)
    else:
        print_table(("STEP", "WHAT IS FOUND"), looked.steps, empty="")
        typer.echo(printable(f"a member's call goes to {looked.from_phone}"))
        typer.echo(printable(f"a call of the PBX goes to {looked.from_pbx}"))
    if looked.from_phone == NOWHERE and not looked.phones:
        raise typer.Exit(1)


def _registered(admin: str, config: Config, path: Any) -> list[dict[str, Any]] | str:
    """What a running edge knows, or why nothing can be said."""
    if not admin and not config.admin.listen:
        return "admin.listen is empty: the edge cannot be asked who is registered"
    try:
        return list(connect(admin, path).registrations())
    except Failure as error:
        return str(error)


async def _look(config: Config, address: str, registered: list[dict[str, Any]] | str) -> Looked:
    from nomad.sip.errors import Reject, SipError

    looked = Looked(address)
    try:
        called = _called(config, address, looked)
    except Reject as reject:
        looked.tell("dial plan", f"refused: {reject.status} {reject.reason or reject.rule} ({reject.why})")
        return looked
    except SipError as error:
        raise Failure(f"'{address}' is no address: {error.text}; write sip:first.last@{config.domain}") from None
    if called.address:
        await _person(config, called.address, registered, looked)
    else:
        looked.number = called.number
        _numbering_plans(called.number, looked)
        _phones([each for each in _known(registered) if each["extension"] == called.number], registered, looked)
    if looked.number:
        _judged(config, looked)
        await _trunk(config, looked)
    return looked


def _called(config: Config, text: str, looked: Looked) -> Called:
    """What the dial plan makes of it, by the code of the edge. Raises `Reject` or `SipError`."""
    from nomad.config import parse_listen
    from nomad.edge.addresses import OwnAddresses
    from nomad.edge.routing import called_party
    from nomad.sip.uri import Uri

    text = text.strip(" ")
    written = text
    if not re.match(r"(sips?|tel):", text, re.IGNORECASE):
        written = f"sip:{text}" if "@" in text else str(Uri.build(text, config.domain))
    uri = Uri.parse(written)
    listens = [(each.transport, each.host, each.port) for each in map(parse_listen, config.sip.listen)]
    called = called_party(uri, OwnAddresses(config.domains, listens, outside=config.sip.advertise))
    what = f"number {called.number}" if called.number else f"SIP address {called.address}"
    looked.tell("dial plan", f"{uri.text} is the {what}")
    return called


def _numbering_plans(number: str, looked: Looked) -> None:
    """What the number is in plans that the edge does not ask."""
    if ISN.fullmatch(number):
        looked.tell("ISN", "not routed yet: freenum.org is not asked, the number goes the way of any other")
    elif E164.fullmatch(number):
        looked.tell("ENUM", "not routed yet: e164.arpa is not asked, the number goes the way of any other")


async def _person(config: Config, address: str, registered: list[dict[str, Any]] | str, looked: Looked) -> None:
    """A SIP address is somebody's: the edge knows those who are registered."""
    person = await _in_directory(config, address, looked)
    logins = {person.login} if person else set()
    found = [each for each in _known(registered) if address in each["addresses"] or each["user"] in logins]
    _phones(found, registered, looked)
    owner = next((each for each in found if address in each["addresses"]), None)
    if owner is not None:
        looked.number = owner["extension"]
        text = f"the call of a member goes to extension {owner['extension']}" if owner["extension"] else "has none"
        looked.tell("extension", text)
    elif not isinstance(registered, str):
        looked.tell("extension", "the edge knows extensions of those who are registered: 404 until a phone is")
    elif person is not None and person.extension:
        looked.number = person.extension
        looked.tell("extension", f"{person.extension} by the directory, once a phone of {person.login} is registered")


async def _in_directory(config: Config, address: str, looked: Looked) -> Person | None:
    from nomad.servers import embedded_config
    from radius.errors import DirectoryUnavailable
    from radius.service import open_directory

    if not config.directory.url:
        looked.tell("directory", "not asked: directory.url is not set, people are RADIUS's matter")
        return None
    directory = open_directory(embedded_config(config))
    try:
        for login in (address, address.partition("@")[0]):
            person = await directory.find(login)
            if person is not None:
                more = f", extension {person.extension}" if person.extension else ", without extension"
                looked.tell("directory", f"{person.login}{more}{', disabled' if person.disabled else ''}")
                return person
    except DirectoryUnavailable as error:
        looked.tell("directory", f"does not answer: {error}")
        return None
    finally:
        await directory.close()
    looked.tell("directory", f"nobody is {address}")
    return None


def _known(registered: list[dict[str, Any]] | str) -> list[dict[str, Any]]:
    return [] if isinstance(registered, str) else registered


def _phones(found: Sequence[dict[str, Any]], registered: list[dict[str, Any]] | str, looked: Looked) -> None:
    """Phones that a call of the PBX would ring."""
    if isinstance(registered, str):
        looked.tell("phones", f"not known: {registered}")
        looked.from_pbx = UNKNOWN
        return
    for each in found:
        looked.user = each["user"]
        for binding in each["bindings"]:
            phone = f"{binding['transport']} {binding['peer']}"
            looked.phones.append(phone)
            looked.tell("phone", f"{each['user']}: {phone} {binding['user_agent']}".rstrip(" "))
    if looked.phones:
        looked.from_pbx = f"{len(looked.phones)} phones of {looked.user}"
    else:
        looked.tell("phones", "none is registered: 480 to the PBX")


def _judged(config: Config, looked: Looked) -> None:
    """The number's class, and which groups may call it; more is told by `nomad policy explain`."""
    from nomad.inputs import load_ruleset

    ruleset = load_ruleset(config)
    found = ruleset.classes.find(looked.number)
    shown = looked.number if found.number == looked.number else f"{looked.number} is {found.number}"
    by = f": class {found.name}, by '{found.entry.text}'" if found.name else ": in no class"
    looked.tell("policy", shown + by)
    if found.name == "emergency":
        looked.tell("policy", "everybody may call it")
        return
    names = [
        group.name
        for group in ruleset.groups
        if (group.allow.find(found) or ruleset.allow.find(found))
        and not (group.deny.find(found) or ruleset.deny.find(found))
    ]
    looked.tell("policy", f"may be called by {', '.join(names) or 'nobody'}; see: nomad policy explain")
    if not names:
        looked.number = ""


async def _trunk(config: Config, looked: Looked) -> None:
    """The PBX, by the code of the edge, and the addresses that its name has now."""
    from nomad.edge.trunks import Trunks, make_trunk
    from nomad.inputs import targets_of
    from nomad.ports import Unavailable

    if not looked.number:
        return
    trunk = Trunks([make_trunk(pbx, places=()) for pbx in config.pbx]).for_number(looked.number)
    own = trunk.extensions.fullmatch(looked.number)
    why = f"one of its extensions '{trunk.extensions.pattern}'" if own else "no PBX has it as extension: the first one"
    looked.tell("PBX", f"{trunk.name}, {why}")
    try:
        looked.tell("DNS", f"{trunk.uri.text} is at {', '.join(await targets_of(trunk.uri))}")
    except Unavailable as error:
        looked.tell("DNS", str(error))
        looked.from_phone = f"PBX {trunk.name}, whose address is not known now"
        return
    looked.from_phone = f"sip:{looked.number}@{trunk.uri.host} by PBX {trunk.name}"
