"""Certificates for tests: an authority of their own, made with openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """An authority in a directory."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """What a client has to trust."""
        return self.directory / "ca.crt"

    @classmethod
    def make(cls, directory: Path) -> Authority:
        """Make an authority in a new directory."""
        directory.mkdir(parents=True)
        _openssl(
            directory,
            ["req", "-x509", *_CURVE, "-days", "2", "-subj", "/CN=tests", "-keyout", "ca.key"],
            ["-out", "ca.crt", "-addext", "basicConstraints=critical,CA:TRUE"],
            ["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        )
        return cls(directory)

    def issue(self, address: str, name: str = "localhost") -> Pair:
        """Make a certificate for an IP address and a host name; also one for a client."""
        stem = f"host-{name}"
        _openssl(
            self.directory,
            ["req", *_CURVE, "-subj", f"/CN={name}", "-keyout", f"{stem}.key"],
            ["-out", f"{stem}.csr"],
        )
        extensions = self.directory / f"{stem}.ext"
        extensions.write_text(f"subjectAltName=IP:{address},DNS:{name}\n")
        _openssl(
            self.directory,
            ["x509", "-req", "-in", f"{stem}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"],
            ["-CAcreateserial", "-days", "2", "-extfile", extensions.name, "-out", f"{stem}.crt"],
        )
        return Pair(self.directory / f"{stem}.crt", self.directory / f"{stem}.key")


def _openssl(directory: Path, *parts: list[str]) -> None:
    command = ["openssl", *(word for part in parts for word in part)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
