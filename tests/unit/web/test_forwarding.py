"""The client's address behind proxies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from edgeproxy.web.forwarding import client_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param("10.0.0.1", [b"203.0.113.7"], "203.0.113.7", id="one trusted proxy"),
        pytest.param("10.0.0.1", [b"203.0.113.7, 10.0.0.2"], "203.0.113.7", id="two trusted proxies"),
        pytest.param("10.0.0.1", [b"203.0.113.7", b"10.0.0.2"], "203.0.113.7", id="in two lines"),
        pytest.param(
            "10.0.0.1",
            [b"198.51.100.1, 203.0.113.7"],
            "203.0.113.7",
            id="what the client itself claims is not believed",
        ),
        pytest.param("203.0.113.9", [b"198.51.100.1"], "203.0.113.9", id="a peer that is not trusted is not believed"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="no header"),
        pytest.param("10.0.0.1", [b"10.0.0.9"], "10.0.0.9", id="a client inside"),
        pytest.param("10.0.0.1", [b"unknown"], "10.0.0.1", id="no address"),
        pytest.param("10.0.0.1", [b"198.51.100.1, , "], "10.0.0.1", id="an empty entry ends the walk"),
        pytest.param("10.0.0.1", [b"203.0.113.7:4711"], "203.0.113.7", id="with a port"),
        pytest.param("fd00::1", [b"[2001:db8::1]:4711"], "2001:db8::1", id="IPv6 with a port"),
        pytest.param("::ffff:10.0.0.1", [b"203.0.113.7"], "203.0.113.7", id="an IPv4 peer on an IPv6 socket"),
        pytest.param(
            "::ffff:203.0.113.9", [b"198.51.100.1"], "::ffff:203.0.113.9", id="an IPv4 peer that is not trusted"
        ),
        pytest.param("", [b"203.0.113.7"], "", id="a unix socket that is not listed"),
        pytest.param("10.0.0.1", [b"203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7", id="a hop as a mapped address"),
        pytest.param("10.0.0.1", [b"203.0.113.7, fe80::1%eth0"], "fe80::1%eth0", id="a hop with a zone"),
        pytest.param("10.0.0.1", [b"203.0.113.7\xff"], "10.0.0.1", id="letters outside ASCII"),
        pytest.param("10.0.0.1", [b"010.0.0.2, 999.1.1.1"], "10.0.0.1", id="numbers that are no address"),
        pytest.param("10.0.0.1", [b"[2001:db8::1"], "2001:db8::1", id="half a bracket"),
    ],
)
def test_the_client_is_whom_the_last_trusted_proxy_saw(peer: str, forwarded: list[bytes], client: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == client


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert client_address("10.0.0.1", [b"203.0.113.7"], ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        pytest.param([b"203.0.113.7"], "203.0.113.7", id="one proxy"),
        pytest.param([b"198.51.100.1, 203.0.113.7, 10.0.0.2"], "203.0.113.7", id="a load balancer before it"),
        pytest.param([b"@"], "", id="no address"),
        pytest.param([], "", id="no header"),
    ],
)
def test_the_other_end_of_a_unix_socket_is_believed_where_it_is_listed(forwarded: list[bytes], client: str) -> None:
    assert client_address("", forwarded, (*TRUSTED, "unix")) == client
    # The word means nothing for who has an address.
    assert client_address("203.0.113.9", forwarded, ("unix",)) == "203.0.113.9"
