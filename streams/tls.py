"""TLS towards brokers: certificates and keys from the settings, and in one line what is wrong with them. Shell.

aiokafka takes the context made here, librdkafka the same files by name; both check the broker's certificate and its name.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from streams.errors import AccessError

if TYPE_CHECKING:
    from pathlib import Path

    from config.security import Security

_CONNECT_S = 3.0
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME, _OTHER_ADDRESS = 62, 64
_UNKNOWN_SIGNER = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's numbers of what is wrong with a certificate (X509_V_ERR_...)."""


def client_context(security: Security) -> ssl.SSLContext:
    """What we believe and who we are, for a connection to a broker.

    Raises `AccessError` for a file that is missing or not right. Never asks a person for the password of a key.
    """
    ca_file = security.ca_file
    if ca_file is not None:
        _readable("ca_file", ca_file)
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except ssl.SSLError as e:
        raise AccessError(f"kafka.security.ca_file {ca_file} holds no certificate in PEM; give it the brokers' authority") from e
    if security.certificate_file is not None and security.key_file is not None:
        _load_own(context, security, security.certificate_file, security.key_file)
    return context


def believed(security: Security) -> str | None:
    """File or folder of the certificates that may sign the brokers': the settings', else those Python takes as the system's.

    None where the system has none. librdkafka would look for the system's in places of its own.
    """
    if security.ca_file is not None:
        return str(security.ca_file)
    system = ssl.get_default_verify_paths()
    return system.cafile or system.capath


def listens(server: str) -> bool:
    """Whether anybody accepts connections at `server` (host:port)."""
    host, port = _place(server)
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_S):
            return True
    except (OSError, ValueError):
        return False


def distrust(server: str, context: ssl.SSLContext) -> str | None:
    """Why the certificate that `server` (host:port) shows is not believed, and what to do; None where nothing is wrong with it.

    librdkafka says "certificate verify failed" and no more.
    """
    host, port = _place(server)
    try:
        with (
            socket.create_connection((host, port), timeout=_CONNECT_S) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as e:
        return f"the certificate of {server} is not accepted: {e.verify_message.rstrip('.')}; {_cure(e.verify_code)}"
    except (OSError, ValueError):  # no TLS, or nobody there: not a matter of trust
        return None


def _place(server: str) -> tuple[str, int]:
    host, _, port = server.strip().rpartition(":")
    return host.strip("[]"), int(port)


def _cure(code: int) -> str:
    if code in {_EXPIRED, _NOT_YET}:
        return "renew the broker's certificate, or set this machine's clock"
    if code in {_OTHER_NAME, _OTHER_ADDRESS}:
        return "name the broker in kafka.bootstrap_servers as its certificate does"
    if code in _UNKNOWN_SIGNER:
        return "kafka.security.ca_file must hold the certificate of the authority that signed it"
    return "the broker needs another certificate"


def _load_own(context: ssl.SSLContext, security: Security, certificate: Path, key: Path) -> None:
    _readable("certificate_file", certificate)
    _readable("key_file", key)
    asked = False

    def password() -> str:
        nonlocal asked
        asked = True
        return "" if security.key_password is None else security.key_password.get_secret_value()

    try:
        context.load_cert_chain(str(certificate), str(key), password)
    except (ssl.SSLError, ValueError) as e:
        if isinstance(e, ssl.SSLError) and e.reason == "KEY_VALUES_MISMATCH":
            said = f"key_file {key} is not the key of certificate_file {certificate}; give the two that were made together"
        elif asked and security.key_password is None:
            said = f"key_file {key} is encrypted; set key_password"
        elif asked:
            said = f"key_password does not open key_file {key}; set the right one"
        else:
            said = f"certificate_file {certificate} or key_file {key} is not what it should be: a certificate and a key in PEM"
        raise AccessError(f"kafka.security.{said}") from e


def _readable(name: str, file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as e:
        raise AccessError(f"kafka.security.{name} {file} cannot be read: {e.strerror}; name a PEM file there") from e
