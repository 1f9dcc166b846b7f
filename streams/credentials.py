"""Kafka security settings as the credential objects Faust's client takes: never in a URL, which shows in logs. Shell."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import faust

if TYPE_CHECKING:
    from config.sections import Security


def faust_credentials(security: Security) -> Any:
    """`broker_credentials` of a Faust app, None for PLAINTEXT."""
    context = _context(security) if security.protocol in {"SSL", "SASL_SSL"} else None
    if security.protocol == "SSL":
        return faust.SSLCredentials(context=context)
    if security.protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=security.username,
            password=None if security.password is None else security.password.get_secret_value(),
            mechanism=security.mechanism,
            ssl_context=context,
        )
    return None


def _context(security: Security) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if security.ca_file is None else str(security.ca_file))
    if security.certificate_file is not None:
        key_password = None if security.key_password is None else security.key_password.get_secret_value()
        context.load_cert_chain(
            str(security.certificate_file), None if security.key_file is None else str(security.key_file), key_password
        )
    return context
