"""Real components for the tests in this folder, started once per run, and only when a test asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.baresip import Baresip
from tests.harness.chromium import Pages
from tests.harness.debian import require
from tests.harness.edge import Edge
from tests.harness.freeradius import FreeRadius
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.harness.slapd import Slapd

NewFolder = Callable[[str], Path]
NewPhone = Callable[..., Baresip]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an interop test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> NewFolder:
    """Makes temporary folders by name."""
    return lambda name: tmp_path_factory.mktemp(name)


@pytest.fixture(scope="session")
def pki(new_folder: NewFolder) -> Pki:
    """A certification authority."""
    require("openssl")
    return Pki(new_folder("pki"))


@pytest.fixture(scope="session")
def slapd(new_folder: NewFolder, pki: Pki) -> Iterator[Slapd]:
    """A directory with the sample people, LDAP and LDAPS."""
    require("slapd")
    server = Slapd(new_folder("slapd"), certificate=pki.issue("slapd"), ca=pki.ca)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def freeradius(new_folder: NewFolder, slapd: Slapd) -> Iterator[FreeRadius]:
    """FreeRADIUS over that directory."""
    require("freeradius")
    server = FreeRadius(new_folder("freeradius"), slapd)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def edge_port() -> int:
    """The SIP port of the edge under test, settled before it starts, so that the PBX can know it."""
    return free_port()


@pytest.fixture(scope="session")
def asterisk(new_folder: NewFolder, edge_port: int) -> Iterator[Asterisk]:
    """A PBX that trusts the edge and calls it back."""
    require("asterisk")
    pbx = Asterisk(new_folder("asterisk"), edge=f"{HOST}:{edge_port}")
    yield pbx
    pbx.stop()


@pytest.fixture(scope="module", params=["embedded", "freeradius"])
def edge(request: pytest.FixtureRequest, new_folder: NewFolder, edge_port: int, asterisk: Asterisk) -> Iterator[Edge]:
    """An edge before Asterisk: once with its own RADIUS server over LDIF, once with FreeRADIUS over slapd."""
    radius = request.getfixturevalue("freeradius") if request.param == "freeradius" else None
    server = Edge(new_folder(f"edge-{request.param}"), pbx=asterisk.uri, port=edge_port, radius=radius)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def embedded_edge(new_folder: NewFolder, edge_port: int, asterisk: Asterisk) -> Iterator[Edge]:
    """An edge before Asterisk with its own RADIUS server only, for what no other server changes."""
    server = Edge(new_folder("edge"), pbx=asterisk.uri, port=edge_port)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pages(new_folder: NewFolder) -> Iterator[Pages]:
    """The web server with the browser's phone."""
    require("chromium")
    server = Pages(new_folder("pages") / "site")
    yield server
    server.stop()


@pytest.fixture
def new_phone(tmp_path: Path) -> Iterator[NewPhone]:
    """Starts phones, with the arguments of Baresip after the folder; they are stopped after the test."""
    require("baresip")
    phones: list[Baresip] = []

    def start(name: str, aor: str, password: str, **options: str | int | bool | Path) -> Baresip:
        folder = tmp_path / f"baresip-{len(phones)}-{name}"
        phone = Baresip(folder, name, aor, password, **options)  # type: ignore[arg-type]  # passed on as they are
        phones.append(phone)
        return phone

    yield start
    for phone in phones:
        phone.stop()


@pytest.fixture
def sipp_folder(tmp_path: Path) -> Path:
    """Where SIPp runs may write; skips the test when there is no SIPp."""
    require("sipp")
    return tmp_path / "sipp"
