"""A certification authority for one test run, and certificates for loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.harness.processes import run

DAYS = "30"
EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, both PEM files."""

    certificate: Path
    key: Path


class Pki:
    """Makes a CA at once and certificates on demand, with the openssl command."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca = folder / "ca.pem"
        subject = ("-subj", "/CN=Nomad test CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        run(
            ["openssl", "req", "-x509", *EC_KEY, "-days", DAYS, *subject, "-keyout", folder / "ca.key", "-out", self.ca]
        )

    def issue(
        self,
        name: str = "localhost",
        *,
        names: tuple[str, ...] = ("localhost", "inria.example"),
        uris: tuple[str, ...] = (),
        days: str = DAYS,
    ) -> Certificate:
        """A certificate for server and client use, valid for these names and URIs and the loopback addresses.

        With `days` below 0 it has expired.
        """
        stem = self._folder / name
        made = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        alternatives = ",".join(
            [*(f"DNS:{each}" for each in names), *(f"URI:{each}" for each in uris), "IP:127.0.0.1", "IP:::1"]
        )
        extensions = stem.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
        request = stem.with_suffix(".csr")
        run(["openssl", "req", *EC_KEY, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request])
        signing = ["-CA", self.ca, "-CAkey", self._folder / "ca.key", "-CAcreateserial", "-days", days]
        run(["openssl", "x509", "-req", "-in", request, *signing, "-extfile", extensions, "-out", made.certificate])
        return made
