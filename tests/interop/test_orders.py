"""radclient ends a running call through Asterisk (RFC 5176)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import Edge
from tests.harness.freeradius import FreeRadius
from tests.harness.people import ALICE
from tests.harness.ports import HOST, free_port
from tests.harness.processes import wait_until
from tests.harness.wire import Wire


class OrderedEdge(Edge):
    """An edge before FreeRADIUS that takes orders from its host."""

    def _config(self, *arguments: object) -> str:
        self.order_port = free_port()
        text = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        listen = f'disconnect_listen = "{HOST}:{self.order_port}"\ndisconnect_clients = ["{HOST}"]\n'
        return text.replace("[radius]\n", f"[radius]\n{listen}", 1)


@pytest.fixture
def ordered_edge(tmp_path: Path, edge_port: int, asterisk: Asterisk, freeradius: FreeRadius) -> Iterator[OrderedEdge]:
    server = OrderedEdge(tmp_path, pbx=asterisk.uri, port=edge_port, radius=freeradius)
    yield server
    server.stop()


def test_a_disconnect_ends_both_legs_within_a_second(ordered_edge: OrderedEdge, freeradius: FreeRadius) -> None:
    edge = ordered_edge
    server = f"{HOST}:{edge.order_port}"
    with Wire(edge.sip, ALICE) as phone:
        assert phone.register().status == 200
        dialog = phone.call("1000")
        started = time.monotonic()
        reply = freeradius.disconnect(server, {"User-Name": ALICE.login})
        assert reply.kind == "Disconnect-ACK"
        bye = phone.receive()
        assert bye is not None
        assert (bye.method, bye.get("Call-ID")) == ("BYE", dialog.call_id)
        wait_until(lambda: edge.metric("nomad_calls_active") == 0, timeout_s=1.0, what="end of the call")
        assert time.monotonic() - started < 1.0
    assert edge.metric("nomad_registrations") == 0
    stop = edge.wait_accounted(dialog.call_id, "Start", "Stop")[-1]
    assert stop["Acct-Terminate-Cause"] == "Admin-Reset"
    again = freeradius.disconnect(server, {"User-Name": ALICE.login})
    assert (again.kind, again.all("Error-Cause")) == ("Disconnect-NAK", ["Session-Context-Not-Found"])
