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
_KEY: Final = re.compile(r"[\x21-\x7e]{8,256}")


def checked_key(key: str | None) -> str:
    """Return the key without the white space around it, or raise UsageError (which never shows the key)."""
    if not isinstance(key, str | None):
        raise UsageError(f"The API key must be a text, not {type(key).__name__}.")
    if key is None or not key.strip():
        raise UsageError("No API key: set NEURALBOX_API_KEY or pass api_key=… (create one in your NeuralBox profile).")
    stripped = key.strip()
    if not _KEY.fullmatch(stripped):
        raise UsageError(
            "The API key must be 8 to 256 printable ASCII characters without spaces; copy it again from your profile."
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
    ours = parts.hostname == own.hostname or (is_loopback(parts.hostname) and is_loopback(own.hostname or ""))
    if not ours and parts.hostname not in RESULT_HOSTS and parts.hostname not in file_hosts:
        raise ResponseError(
            f"The result lies on {parts.hostname}, a host this client does not know; "
            f"if you trust it, pass file_hosts=[{parts.hostname!r}] to AsyncNeuralBox."
        )
    if parts.scheme == "http" and not (is_loopback(parts.hostname) or (ours and own.scheme == "http")):
        raise ResponseError(f"The result's URL {url[:200]!r} is not https; fetch generation.url yourself.")
    return url


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
