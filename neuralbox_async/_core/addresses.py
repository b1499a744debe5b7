"""Which addresses may be asked, and what a key looks like: checked before anything is sent.

The key goes to the API's own scheme, host and port and nowhere else; results are fetched from hosts we know, over
https, or over http on this machine alone.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Final
from urllib.parse import SplitResult, urlsplit

from neuralbox_async._core.errors import ResponseError, UsageError

DEFAULT_BASE_URL: Final = "https://neuralbox.top/api/v2"
# Source: result_url and output_url in the documented replies; each of the two hosts at each of the two domains.
RESULT_HOSTS: Final = frozenset(
    {"storage.neuralbox.top", "storage.elumenta.ru", "cdn.neuralbox.top", "cdn.elumenta.ru"}
)
# In file_hosts: any host whose addresses are all of the public internet.
ANY_HOST: Final = "*"
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
# Where clouds answer their own machines, outside of what every Python counts as private: Azure's, Oracle's.
_METADATA: Final = (ipaddress.IPv4Network("168.63.129.16/32"), ipaddress.IPv4Network("192.0.0.0/24"))
# Source: the documented prefix. What lacks it is long, or it would stand in replies by chance, where keys are hidden.
_KEY: Final = re.compile(r"nb_[\x21-\x7e]{1,253}|[\x21-\x7e]{8,256}")


def checked_key(key: str | None) -> str:
    """Return the key without the white space around it, or raise UsageError (which never shows the key)."""
    if not isinstance(key, str | None):
        raise UsageError(f"The API key must be a text, not {type(key).__name__}.")
    if key is None or not key.strip():
        raise UsageError("No API key: set NEURALBOX_API_KEY or pass api_key=… (create one in your NeuralBox profile).")
    stripped = key.strip()
    if stripped[0] in "\"'" and stripped[-1] == stripped[0]:  # docker's --env-file, for one, keeps them
        raise UsageError("The API key stands in quotes, which would be sent with it; leave them out.")
    if not _KEY.fullmatch(stripped):
        raise UsageError(
            "The API key must be printable ASCII without spaces, 8 to 256 characters, or fewer with its usual prefix; "
            "copy it again from your profile."
        )
    return stripped


def checked_base_url(base_url: str, *, allow_insecure_http: bool) -> str:
    """Return the base URL without a trailing slash, or raise UsageError if the key would not be safe with it."""
    parts = _split(base_url) if isinstance(base_url, str) else None
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"base_url {base_url!r} is not an https URL, such as {DEFAULT_BASE_URL!r}.")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("base_url must have no user name, query or fragment; pass the key as api_key=….")
    if parts.scheme == "http" and not (is_loopback(parts.hostname) or allow_insecure_http):
        raise UsageError(
            f"base_url {base_url!r} would send the key unencrypted; use https, or pass allow_insecure_http=True."
        )
    return base_url.rstrip("/")


def checked_result_url(url: str, *, base_url: str, file_hosts: Collection[str]) -> str:
    """Return the URL of a result, or raise ResponseError if it is not on a host that results come from."""
    parts, own = _split(url), urlsplit(base_url)
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None:
        raise ResponseError(f"The result's URL {url[:200]!r} is not an https URL; fetch generation.url yourself.")
    ours = _is_ours(parts.hostname, own.hostname)
    if not ours and not is_named_host(url, file_hosts=file_hosts) and ANY_HOST not in file_hosts:
        raise ResponseError(
            f"The result lies on {parts.hostname}, a host this client does not know; "
            f"if you trust it, pass file_hosts=[{parts.hostname!r}] to AsyncNeuralBox."
        )
    if parts.scheme == "http" and not (is_loopback(parts.hostname) or (ours and own.scheme == "http")):
        raise ResponseError(f"The result's URL {url[:200]!r} is not https; fetch generation.url yourself.")
    return url


def is_named_host(url: str, *, file_hosts: Collection[str]) -> bool:
    """Whether the URL's host is documented, or named by the caller: such a host is not asked for its addresses."""
    host = urlsplit(url).hostname
    return host in RESULT_HOSTS or host in file_hosts


def must_be_public(url: str, *, base_url: str, file_hosts: Collection[str]) -> bool:
    """Whether the URL's host is allowed only as any host is, so that its addresses are to be checked."""
    host, own = urlsplit(url).hostname or "", urlsplit(base_url).hostname
    return not _is_ours(host, own) and not is_named_host(url, file_hosts=file_hosts)


def _is_ours(host: str, own: str | None) -> bool:
    """Whether a result lies where the API is, or both on this machine."""
    return host == own or (is_loopback(host) and is_loopback(own or ""))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; one that wraps another is what it wraps."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour or (found.teredo and found.teredo[1])
        found = ipaddress.IPv4Address(found.packed[-4:]) if found in _NAT64 else wrapped or found
    inside = found.is_private or found.is_reserved or found.is_multicast or found.is_link_local
    return found.is_global and not inside and not any(found in network for network in _METADATA)


def checked_hosts(hosts: Collection[str] | None) -> frozenset[str]:
    """Return host names as a set, or raise UsageError: one text would be taken for its letters."""
    if hosts is None:
        return frozenset()
    if isinstance(hosts, str) or not all(isinstance(each, str) for each in hosts):
        raise UsageError(f"file_hosts must be a list of host names such as ['cdn.example.com'], not {hosts!r}.")
    return frozenset(hosts)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # urlsplit checks the port only when asked for it
    except ValueError:
        return None
    return None if re.search(r"[\s\x00-\x1f\x7f]", url) else parts
