"""The first word with Kafka: what the cluster has, or in one line why it does not let us in. Shell.

librdkafka goes on trying whatever is wrong, and tells its callback why. What will not pass by waiting (a refused login,
a certificate that is not believed) is raised at once, the rest when time is up.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from streams.clients import kafka_client_config
from streams.errors import AccessError, BrokerError
from streams.tls import client_context, distrust, listens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import KafkaError
    from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]  # re-exported without saying so

    from config.sections import Kafka
    from streams.clients import Config

_FIRST_WAIT_S = 0.5
_POLL_S = 0.05


def quiet_config(kafka: Kafka) -> Config:
    """A client's configuration for commands.

    What fails is raised with its reason; librdkafka's own lines on standard error would only repeat it.
    """
    return {**kafka_client_config(kafka), "log_level": 2}


def cluster(kafka: Kafka, *, timeout_s: float) -> ClusterMetadata:
    """What the cluster says of itself.

    Raises `AccessError` when it refuses us or is not believed, `BrokerError` when it does not answer in time.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    if kafka.security.mechanism == "OAUTHBEARER":
        from streams.tokens import token_source

        token_source(kafka.security).token()
    heard: list[KafkaError] = []
    config: Config = {**quiet_config(kafka), "error_cb": heard.append}
    client = AdminClient(config)
    deadline = time.monotonic() + timeout_s
    wait_s = min(_FIRST_WAIT_S, timeout_s)
    while True:
        try:
            return client.list_topics(timeout=wait_s)
        except KafkaException as e:
            client.poll(_POLL_S)  # brings what was heard
            refused = _refusal(kafka, heard)
            if refused is not None:
                raise AccessError(refused) from e
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                why = _reason(kafka, [*heard, e.args[0]])
                raise BrokerError(f"no answer from Kafka at {kafka.bootstrap_servers} within {timeout_s:g} s ({why})") from e
            wait_s = min(2 * wait_s, left_s)


def _refusal(kafka: Kafka, heard: Sequence[KafkaError]) -> str | None:
    """What will not pass by waiting."""
    from confluent_kafka import KafkaError

    codes = {error.code() for error in heard}
    if KafkaError._SSL in codes:  # noqa: SLF001 - its public name has the underscore
        context = client_context(kafka.security)
        for server in kafka.bootstrap_servers.split(","):
            why = distrust(server.strip(), context)
            if why is not None:
                return why
    for error in heard:
        said = _words(error)
        if re.search(r"alert (?:number|certificate|unknown ca|bad certificate)|certificate required", said) is not None:
            return (
                f"Kafka at {kafka.bootstrap_servers} does not accept our certificate ({said}); "
                "check kafka.security.certificate_file and key_file"
            )
        if "SASL authentication error" in said or "mechanism handshake failed: Broker:" in said:
            mechanism = kafka.security.mechanism
            own = "mechanism and oauth_client_id" if mechanism == "OAUTHBEARER" else "mechanism, username and password"
            return f"Kafka at {kafka.bootstrap_servers} refuses our login by {mechanism} ({said}); check kafka.security.{own}"
    return None


def _reason(kafka: Kafka, heard: Sequence[KafkaError]) -> str:
    """The error that says most: the newest that is about a broker, rather than about having waited for one."""
    from confluent_kafka import KafkaError

    waited = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT}  # noqa: SLF001 - the same
    telling = [error for error in heard if error.code() not in waited and "://" in error.str()]
    said = _words((telling or list(heard))[-1])
    if (not telling or "Disconnected" in said) and any(listens(server) for server in kafka.bootstrap_servers.split(",")):
        # A broker that is spoken to by the wrong protocol hangs up without a word.
        said += f"; somebody listens there: is kafka.security.protocol {kafka.security.protocol} right?"
    return said


def _words(error: KafkaError) -> str:
    """Its text without librdkafka's inner matters: which connection, and after how long in which state."""
    text = re.sub(r" \(after \d+ms in state \w+.*?\)", "", error.str())
    return re.sub(r"^(?:[\w]+://[^/]+/\w+: )+", "", text)
