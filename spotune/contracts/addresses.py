"""Where a webhook may lead: which URLs are taken, and which addresses are never connected to.

A URL is somebody else's text, and what it leads to is connected to from inside the account. So the rule is on the
addresses that a name stands for at that moment, not on names: whatever is not public is refused, unless the
installation opens that network. Link-local addresses (the metadata services) cannot be opened.

Source: the IANA special-purpose address registries for IPv4 and IPv6.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from spotune.contracts.errors import RequestRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_LENGTH = 2048
HTTPS_PORT, HTTP_PORT, FIRST_FREE_PORT = 443, 80, 1024

_NEVER: dict[str, str] = {
    "0.0.0.0/8": "unspecified",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "255.255.255.255/32": "broadcast",
    "::/128": "unspecified",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
    "fd00:ec2::/32": "link-local in all but name: EC2's services on the instance",
    "::ffff:0:0/96": "an IPv4 address in IPv6's clothes",
    "64:ff9b::/96": "an IPv4 address behind NAT64",
    "64:ff9b:1::/48": "an IPv4 address behind NAT64",
    "2002::/16": "an IPv4 address behind 6to4",
}

_UNLESS_OPENED: dict[str, str] = {
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared between carriers",
    "127.0.0.0/8": "loopback",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "reserved for documentation",
    "192.88.99.0/24": "a 6to4 relay",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "reserved for benchmarks",
    "198.51.100.0/24": "reserved for documentation",
    "203.0.113.0/24": "reserved for documentation",
    "240.0.0.0/4": "reserved",
    "::1/128": "loopback",
    "::/96": "an IPv4 address in IPv6's clothes",
    "fc00::/7": "private",
    "fec0::/10": "private",
    "2001::/23": "reserved for protocols",
    "2001:db8::/32": "reserved for documentation",
    "3fff::/20": "reserved for documentation",
}

_NEVER_NETWORKS = tuple((ip_network(text), why) for text, why in _NEVER.items())
_REFUSED_NETWORKS = tuple((ip_network(text), why) for text, why in _UNLESS_OPENED.items())
_PUBLIC_IPV6 = ip_network("2000::/3")
"""All that is given out; whatever lies outside is reserved."""

ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
"""Opens private networks too, where a team's tracking server may stand; what cannot be opened stays closed."""

_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
"""A last label of this form makes a host a number, as the WHATWG's URL standard and inet_aton read it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook's URL, taken apart. `path` begins with a slash and has the query."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """As HTTP names it: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (HTTPS_PORT if self.tls else HTTP_PORT) else f"{host}:{self.port}"


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks that an installation opens, from a comma-separated list.

    Raises:
        ValueError: one is not a network in CIDR notation; a fault of the deployment.
    """
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def parse_target(url: str) -> Target:
    """Take a webhook's URL apart, and refuse whatever could be read in two ways.

    Raises:
        RequestRefused: it is too long, has another scheme, a name and password, a fragment, a port of another service,
            or a host that is neither a plain name nor a plain address.
    """
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or {*url} & {*' \\"<>^`{|}'}:
        raise _refused(
            f"the URL has characters that no URL has, or more than {MAX_URL_LENGTH} of them",
            "Write other characters in percent-encoding, and names of other scripts in punycode (xn--...).",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _refused(f"the URL cannot be read ({error})", "Write https://host/path.") from None
    if parts.scheme not in ("https", "http"):
        raise _refused("the URL is not https", "Write https://host/path.")
    if "@" in parts.netloc or "#" in url:
        raise _refused("the URL has a user, a password or a fragment", "Leave them out; deliveries are signed instead.")
    if "[" in parts.netloc and ":" not in host:
        raise _refused("the URL has brackets around what is no IPv6 address", "Write https://host/path.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    tls = parts.scheme == "https"
    return Target(tls, _checked_host(host), _checked_port(port, tls=tls), path)


def forbidden(address: str, opened: Sequence[Network]) -> str:
    """Why this address is never connected to, in words; empty where it may be.

    Args:
        address: as the resolver gave it, a zone id included.
        opened: networks that the installation opens.
    """
    if "%" in address:
        return "bound to one network interface"
    ip = ip_address(address)
    never = _first(ip, _NEVER_NETWORKS)
    if never or is_opened(address, opened):
        return never
    refused = _first(ip, _REFUSED_NETWORKS)
    if not refused and isinstance(ip, IPv6Address) and ip not in _PUBLIC_IPV6:
        return "reserved"
    return refused


def is_opened(address: str, opened: Sequence[Network]) -> bool:
    """True where the address lies in a network that the installation opens."""
    return "%" not in address and any(ip_address(address) in network for network in opened)


def _first(ip: Address, networks: Sequence[tuple[Network, str]]) -> str:
    return next((why for network, why in networks if ip in network), "")


def _checked_host(host: str) -> str:
    """The host in lower case, without a trailing dot.

    An address has one spelling here: `2130706433`, `0x7f.1` and `0177.0.0.1` are all 127.0.0.1 to some resolver.
    """
    if ":" in host:
        if "%" in host:
            raise _refused("the URL's address has a zone id", "Write a name or a public address.")
        try:
            return str(ip_address(host))
        except ValueError:
            raise _refused(f"{host!r} is no address", "Write a name or a public address.") from None
    host = host.removesuffix(".")
    if not _NAME.fullmatch(host):
        raise _refused(f"{host!r} is not a host's name", "Write https://host/path.")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise _refused(f"{host!r} is an address in a strange spelling", "Write it as a.b.c.d, or a name.") from None
    return host


def _checked_port(port: int | None, *, tls: bool) -> int:
    usual = HTTPS_PORT if tls else HTTP_PORT
    if port is None or port == usual or port >= FIRST_FREE_PORT:
        return port or usual
    raise _refused(f"port {port} belongs to another service", f"Use {usual}, or one from {FIRST_FREE_PORT} on.")


def _refused(what: str, remedy: str) -> RequestRefused:
    return RequestRefused(f"The webhook is refused: {what}.", code="webhook_url_invalid", param="url", remedy=remedy)
