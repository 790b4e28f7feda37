"""Whether an address to listen on is one that only this machine reaches."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Of a name other than localhost nothing is known, so that it is none."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
