"""TLS between client, scheduler and workers: who has not the key of this run can neither send tasks nor see any.

A Dask scheduler runs whatever code a client sends it, and a login node has other users.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CLOCK_SKEW, _LIFETIME = datetime.timedelta(days=1), datetime.timedelta(days=365)
"""Clocks of nodes differ: a certificate is valid from some time ago on."""
_ROLES = ("client", "scheduler", "worker")


def temporary_security() -> Any:
    """TLS by a key that exists in the memory of this process and those it starts, nowhere else."""
    key, certificate = _credentials()
    return _security(certificate, key)


@contextlib.contextmanager
def security_files(folder: Path) -> Iterator[Any]:
    """TLS by a key in a folder that nobody else can open, for workers on other machines; gone at the end."""
    key, certificate = _credentials()
    folder.mkdir(parents=True, mode=0o700)
    try:
        for name, text in (("key.pem", key), ("certificate.pem", certificate)):
            (folder / name).touch(0o600)
            (folder / name).write_text(text, encoding="ascii")
        yield _security(str(folder / "certificate.pem"), str(folder / "key.pem"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def worker_options(security: Any) -> list[str]:
    """Options for the command line of a worker."""
    files = security.get_tls_config_for_role("worker")
    return ["--tls-ca-file", files["ca_file"], "--tls-cert", files["cert"], "--tls-key", files["key"]]


def _security(certificate: str, key: str) -> Any:
    from distributed.security import Security

    pairs = {f"tls_{role}_{what}": value for role in _ROLES for what, value in (("cert", certificate), ("key", key))}
    return Security(require_encryption=True, tls_ca_file=certificate, **pairs)


def _credentials() -> tuple[str, str]:
    """A new key, and a certificate that it signed itself: whoever has both belongs to this run."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name, now = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ainerd-hpc")]),
        datetime.datetime.now(datetime.UTC),
    )
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    key_text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return key_text.decode(), certificate.public_bytes(pem).decode()
