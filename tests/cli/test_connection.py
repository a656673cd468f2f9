from __future__ import annotations

from pathlib import Path

import pytest

from nomad.admin.app import AdminServer
from tests.cli.conftest import Nomad
from tests.harness.ports import free_port

CONFIG = """
domain = "inria.example"
[radius]
auth = ["127.0.0.1:1812"]
acct = ["127.0.0.1:1813"]
secret_file = "radius.secret"
[[pbx]]
name = "x"
uri = "sip:127.0.0.1:5070"
[admin]
listen = "{listen}"
token_file = "admin.token"
"""


def write_config(folder: Path, listen: str) -> str:
    path = folder / "nomad.toml"
    path.write_text(CONFIG.format(listen=listen))
    (folder / "radius.secret").write_text("secret")
    (folder / "admin.token").write_text("sesame\n")
    return str(path)


async def test_no_edge_is_told_in_one_line(bare: Nomad) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = await bare("calls", "--admin", url)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"nomad: no edge answers at {url}: start one with 'nomad run'")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x:99999", "http://[::1"])
async def test_a_wrong_address_is_told(bare: Nomad, url: str) -> None:
    ran = await bare("calls", "--admin", url)
    assert ran.code == 1
    assert "is no admin address; write it as in http://127.0.0.1:8080" in ran.err


async def test_a_missing_token_is_told(bare: Nomad, server: AdminServer) -> None:
    ran = await bare("calls", "--admin", server.url)
    assert ran.code == 1
    assert ran.err == "nomad: refused: send the admin token (Authorization: Bearer, NOMAD_ADMIN_TOKEN)\n"


async def test_address_and_token_from_the_configuration(bare: Nomad, server: AdminServer, tmp_path: Path) -> None:
    _, port = server.address
    assert (await bare("calls", "-c", write_config(tmp_path, f"127.0.0.1:{port}"))).code == 0
    assert (await bare("calls", "-c", write_config(tmp_path, f"0.0.0.0:{port}"))).code == 0
    elsewhere = write_config(tmp_path, "127.0.0.1:1")
    assert (await bare("calls", "-c", elsewhere, "--admin", server.url)).code == 0
    ran = await bare("calls", "-c", write_config(tmp_path, ""))
    assert ran.code == 1
    assert "admin.listen is empty" in ran.err


async def test_a_configuration_that_cannot_be_read_is_told(bare: Nomad, tmp_path: Path) -> None:
    ran = await bare("calls", "-c", str(tmp_path / "missing.toml"))
    assert ran.code == 1
    assert "missing.toml: cannot be read" in ran.err


async def test_something_else_at_that_address_is_told(bare: Nomad, server: AdminServer) -> None:
    ran = await bare("calls", "--admin", f"{server.url}/console")
    assert ran.code == 1
