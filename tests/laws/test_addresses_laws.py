"""Which addresses may be called, against Python's own tables (`ipaddress`) and by hand where those say less."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.addresses import NEVER, PRIVATE, refusal

MAPPED, NAT64, SIX_TO_FOUR = 0xFFFF << 32, int(IPv6Address("64:ff9b::")), 0x2002 << 112
edges = [int(a) + d for n in (*NEVER, *PRIVATE) for a in (n.network_address, n.broadcast_address) for d in (-1, 0, 1)]
fours = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([e for e in edges if 0 <= e < 2**32])).map(IPv4Address)
sixes = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0x2000 << 112, 0x4000 << 112),
    st.sampled_from([e for e in edges if 2**32 <= e < 2**128]),
).map(IPv6Address)


def allowed(address: object, *, allow_private: bool = False) -> bool:
    return refusal(str(address), allow_private=allow_private) is None


@given(st.one_of(fours, sixes))
def test_nothing_is_allowed_that_python_does_not_call_global(address: IPv4Address | IPv6Address) -> None:
    if allowed(address):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


@given(fours)
def test_every_global_ipv4_address_is_allowed_but_a_metadata_server_and_what_serves_protocols(address: IPv4Address) -> None:
    exceptions = str(address) == "168.63.129.16" or str(address).startswith(("192.88.99.", "192.0.0."))
    if address.is_global and not address.is_multicast and not exceptions:
        assert allowed(address)


@given(fours, st.sampled_from([MAPPED, NAT64]))
def test_an_ipv4_address_inside_ipv6_is_judged_as_itself(address: IPv4Address, prefix: int) -> None:
    for private in (False, True):
        inside = IPv6Address(prefix | int(address))
        assert allowed(inside, allow_private=private) == allowed(address, allow_private=private)


@given(fours)
def test_6to4_is_never_allowed(address: IPv4Address) -> None:
    assert not allowed(IPv6Address(SIX_TO_FOUR | int(address) << 80), allow_private=True)


@given(st.one_of(fours, sixes))
def test_what_allow_private_adds_is_private_to_python_and_no_link_local(address: IPv4Address | IPv6Address) -> None:
    if allowed(address, allow_private=True) and not allowed(address):
        inner = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
        assert any(inner.version == n.version and inner in n for n in PRIVATE)
        assert not inner.is_link_local
        assert not inner.is_multicast
        assert not inner.is_unspecified


@given(st.sampled_from([*NEVER, *PRIVATE]), st.data())
def test_every_address_of_the_tables_is_refused(network: object, data: st.DataObject) -> None:
    known = next(n for n in (*NEVER, *PRIVATE) if n == network)
    address = ip_address(data.draw(st.integers(int(known.network_address), int(known.broadcast_address))))
    if address.version == known.version:
        assert not allowed(address)
        assert not (known in NEVER and allowed(address, allow_private=True))


@pytest.mark.parametrize(
    ("address", "public", "own"),
    [
        ("93.184.215.14", True, True),
        ("2606:2800:220:1::1", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("10.1.2.3", False, True),
        ("100.64.0.1", False, True),
        ("fd12::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("64:ff9b:1::1", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("fd00:ec2::254", False, False),
        ("fd20:ce::254", False, False),
        ("100.100.100.200", False, False),
        ("fe80::1%eth0", False, False),
        ("::", False, False),
        ("::127.0.0.1", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - nobody listens here
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("255.255.255.255", False, False),
        ("2001:0:4136:e378::1", False, False),
        ("localhost", False, False),
        ("2130706433", False, False),
        ("127.1", False, False),
        ("", False, False),
    ],
)
def test_one_by_one(address: str, public: bool, own: bool) -> None:  # noqa: FBT001 - a table
    assert (allowed(address), allowed(address, allow_private=True)) == (public, own)
