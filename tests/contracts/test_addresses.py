"""Where a webhook may lead, in whatever spelling."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.addresses import forbidden, is_opened, parse_networks, parse_target
from spotune.contracts.errors import RequestRefused

PUBLIC = ("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "2606:4700::1111")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("169.254.169.254", "link-local"),
        ("169.254.170.2", "link-local"),
        ("100.64.0.1", "carriers"),
        ("100.127.255.255", "carriers"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("192.0.0.8", "reserved"),
        ("192.0.2.1", "documentation"),
        ("198.18.0.1", "benchmarks"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("192.88.99.1", "6to4"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "IPv4"),
        ("::ffff:127.0.0.1", "IPv4"),
        ("::ffff:8.8.8.8", "IPv4"),
        ("::ffff:169.254.169.254", "IPv4"),
        ("64:ff9b::a9fe:a9fe", "NAT64"),
        ("64:ff9b:1::1", "NAT64"),
        ("2002:7f00:1::", "6to4"),
        ("2001::1", "protocols"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("fc00::1", "private"),
        ("fdff::1", "private"),
        ("fd00:ec2::254", "EC2"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "interface"),
        ("8.8.8.8%1", "interface"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("4000::1", "reserved"),
        ("5f00::1", "reserved"),
        ("100::1", "reserved"),
    ],
)
def test_an_address_that_is_not_public_is_refused_by_its_kind(address: str, why: str) -> None:
    assert why in forbidden(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_taken(address: str) -> None:
    assert forbidden(address, ()) == ""
    assert not is_opened(address, ())


def test_a_network_that_is_opened_is_taken_and_nothing_beside_it() -> None:
    opened = parse_networks("10.1.0.0/16, fd12::/16 ,127.0.0.0/8")
    assert [forbidden(one, opened) for one in ("10.1.2.3", "fd12::5", "127.0.0.1")] == ["", "", ""]
    assert forbidden("10.2.0.1", opened) == forbidden("fd13::5", opened) == "private"


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "fd00:ec2::254", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "::"],
)
def test_what_leads_to_the_machine_itself_or_hides_an_address_cannot_be_opened(address: str) -> None:
    assert forbidden(address, parse_networks("0.0.0.0/0,::/0"))


def test_a_list_of_networks_that_cannot_be_read_is_a_fault_of_the_deployment() -> None:
    assert parse_networks("") == ()
    assert parse_networks("10.0.0.1/8") == parse_networks("10.0.0.0/8")
    for text in ("10.0.0.0/64", "internal", "10.0.0/8"):
        with pytest.raises(ValueError, match=text):
            parse_networks(text)


@given(st.ip_addresses(v=4))
def test_of_ipv4_only_what_is_global_is_taken(address: IPv4Address) -> None:
    """Against Python's own registry, where it calls an address private, multicast or reserved."""
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert forbidden(str(address), ())


@given(st.ip_addresses(v=6))
def test_of_ipv6_only_what_is_global_is_taken(address: IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.ipv4_mapped or address.sixtofour or address.teredo:
        assert forbidden(str(address), ())


@given(st.integers(0, 2**32 - 1))
def test_no_ipv4_address_in_ipv6s_clothes_is_taken(number: int) -> None:
    v4 = IPv4Address(number)
    for clothes in (f"::ffff:{v4}", f"64:ff9b::{v4}", str(IPv6Address((0x2002 << 112) | (number << 80)))):
        assert forbidden(clothes, parse_networks("::/0"))


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "header"),
    [
        ("https://hooks.example.com/a?b=c", "hooks.example.com", 443, "/a?b=c", "hooks.example.com"),
        ("https://Hooks.Example.COM", "hooks.example.com", 443, "/", "hooks.example.com"),
        ("https://hooks.example.com.:8443/x", "hooks.example.com", 8443, "/x", "hooks.example.com:8443"),
        ("https://1.2.3.4/", "1.2.3.4", 443, "/", "1.2.3.4"),
        ("https://[2606:4700:0::1111]:9000/", "2606:4700::1111", 9000, "/", "[2606:4700::1111]:9000"),
        ("https://xn--bcher-kva.example/%20", "xn--bcher-kva.example", 443, "/%20", "xn--bcher-kva.example"),
        ("http://127.0.0.1:5000/hook", "127.0.0.1", 5000, "/hook", "127.0.0.1:5000"),
    ],
)
def test_a_plain_url_is_taken_apart(url: str, host: str, port: int, path: str, header: str) -> None:
    target = parse_target(url)
    assert (target.host, target.port, target.path, target.host_header) == (host, port, path, header)
    assert target.tls == url.startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "//hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "https://",
        "https:///path",
        "https://user@hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com@127.0.0.1/",
        "https://@hooks.example.com/",
        "https://hooks.example.com/#fragment",
        "https://hooks.example.com#@127.0.0.1/",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nHost: x",
        "https://hooks\t.example.com/",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:25/",
        "https://hooks.example.com:80/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:x/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://example.0x1/",
        "https://127.0.0.01/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1/",
        "https://[v1.x]/",
        "https://[1.2.3.4]/",
        "https://１２７.0.0.1/",
        "https://127。0。0。1/",
        "https://bücher.example/",
        "https://exa_mple.com/",
        "https://-example.com/",
        "https://exa..mple.com/",
        "https://example.com../",
        "https://" + "a" * 64 + ".com/",
        "https://example.com/" + "a" * 2048,
        "https://*.example.com/",
        "https://%31%32%37.0.0.1/",
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_target(url)
    assert (refused.value.code, refused.value.param) == ("webhook_url_invalid", "url")
    assert refused.value.remedy


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    for url in (text, f"https://{text}/", f"https://example.com/{text}"):
        try:
            target = parse_target(url)
        except RequestRefused:
            continue
        assert target.path.startswith("/")
        assert target.host.isascii()
        assert not {*target.host + target.path} & {*" \r\n\t\\@#"} or "@" in target.path


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_has_one_spelling(number: int) -> None:
    dotted = str(ip_address(number))
    assert parse_target(f"https://{dotted}/").host == dotted
    one, two, three, four = dotted.split(".")
    tail = (int(two) << 16) | (int(three) << 8) | int(four)
    spellings = (str(number), hex(number), f"0{number:o}", f"{one}.{tail}", f"0x{int(one):x}.{two}.{three}.{four}")
    for spelling in spellings:
        with pytest.raises(RequestRefused):
            parse_target(f"https://{spelling}/")
