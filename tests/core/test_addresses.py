"""Which addresses may be asked, and what a key looks like, as tables."""

from typing import Any

import pytest

from neuralbox_async import AsyncNeuralBox, ResponseError, UsageError
from neuralbox_async._core.addresses import (
    DEFAULT_BASE_URL,
    checked_base_url,
    checked_key,
    checked_result_url,
    is_loopback,
    is_public,
    must_be_public,
)

KEY = "nb_0123456789abcdefghijklmnopqrstuvwxyz012345678"


@pytest.mark.parametrize("key", [KEY, f"  {KEY}\n", f"\t{KEY}\r\n", "nb_live_a1b2c3d4", "nb_test", "!" * 8, "x" * 256])
def test_a_key_is_stripped(key: str) -> None:
    """White space around a key, as it comes from files and pastes, is not part of it."""
    assert checked_key(key) == key.strip()


@pytest.mark.parametrize("key", [None, "", "   ", "\n"])
def test_a_missing_key_says_where_to_get_one(key: str | None) -> None:
    """Without a key the message names the variable, the argument and the place to create one."""
    with pytest.raises(UsageError, match=r"NEURALBOX_API_KEY .*api_key=.* profile"):
        checked_key(key)


@pytest.mark.parametrize(
    "key",
    ["short", "nb_", "x" * 257, "nb_01 234567", "nb_01\n234567", "nb_01\x00234567", "nb_ключ1234", "nb_01\x7f23456"],
)
def test_a_broken_key_is_refused_before_it_is_sent(key: str) -> None:
    """Inner white space, control characters and other alphabets cannot stand in a header; the key is not shown."""
    with pytest.raises(UsageError, match="printable ASCII") as caught:
        checked_key(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("key", [f'"{KEY}"', f"'{KEY}'\n", '"', "''"])
def test_a_key_in_quotes_is_refused(key: str) -> None:
    """Quotes that a file of variables kept would make every call a 401; the key is not shown."""
    with pytest.raises(UsageError, match="stands in quotes") as caught:
        checked_key(key)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "checked"),
    [
        (DEFAULT_BASE_URL, DEFAULT_BASE_URL),
        ("https://elumenta.ru/api/v2/", "https://elumenta.ru/api/v2"),
        ("HTTPS://api.test//", "HTTPS://api.test"),
        ("https://api.test:8443", "https://api.test:8443"),
        ("http://localhost:8000/api/v2", "http://localhost:8000/api/v2"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://box.localhost", "http://box.localhost"),
    ],
)
def test_a_safe_base_url_is_taken(base_url: str, checked: str) -> None:
    """Https anywhere, http on this machine; trailing slashes go."""
    assert checked_base_url(base_url, allow_insecure_http=False) == checked


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "neuralbox.top/api/v2",
        "ftp://neuralbox.top",
        "file:///etc/passwd",
        "https://",
        "https:///api",
        "//neuralbox.top",
        "https://user:secret@neuralbox.top",
        "https://@neuralbox.top",
        "https://neuralbox.top?key=1",
        "https://neuralbox.top#x",
        "https://neuralbox.top:99999",
        "https://neuralbox.top:port",
        "https://[::1",
        " https://neuralbox.top",
        "https://neuralbox.top\n",
        "https://neural\tbox.top",
        "http://neuralbox.top",
        "http://192.168.1.5",
        "http://localhost.evil.test",
        "http://127.0.0.1.evil.test",
        "http://evil.test/localhost",
        "http://0.0.0.0",
    ],
)
def test_an_unsafe_base_url_is_refused(base_url: str) -> None:
    """Anything that is no https URL, hides a password, or would send the key in the clear, is a usage error."""
    with pytest.raises(UsageError, match="base_url") as caught:
        checked_base_url(base_url, allow_insecure_http=False)
    assert "secret" not in str(caught.value)


def test_insecure_http_must_be_asked_for() -> None:
    """The message names the way out, and the way out works."""
    with pytest.raises(UsageError, match="allow_insecure_http=True"):
        AsyncNeuralBox(KEY, base_url="http://box.lan")
    AsyncNeuralBox(KEY, base_url="http://box.lan", allow_insecure_http=True)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (DEFAULT_BASE_URL, "https://storage.neuralbox.top/generations/18500.mp4"),
        (DEFAULT_BASE_URL, "https://storage.elumenta.ru/generations/18500.mp4?sig=a%20b"),
        (DEFAULT_BASE_URL, "https://cdn.elumenta.ru/audio/x.mp3"),
        (DEFAULT_BASE_URL, "https://STORAGE.neuralbox.top:443/x"),
        (DEFAULT_BASE_URL, "https://neuralbox.top/files/x"),
        (DEFAULT_BASE_URL, "https://files.test/x"),
        ("https://elumenta.ru/api/v2", "https://elumenta.ru/files/x"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/x"),
        ("http://127.0.0.1:8000", "http://localhost:9000/x"),
        ("http://box.lan", "http://box.lan/x"),
        ("http://127.0.0.1:8000", "https://storage.neuralbox.top/x"),
    ],
)
def test_a_result_of_a_known_host_is_fetched(base_url: str, url: str) -> None:
    """The documented storage hosts, the API's own, and those that the caller named."""
    assert checked_result_url(url, base_url=base_url, file_hosts=["files.test"]) == url


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (DEFAULT_BASE_URL, "http://storage.neuralbox.top/x"),
        (DEFAULT_BASE_URL, "http://files.test/x"),
        (DEFAULT_BASE_URL, "https://evil.test/x"),
        (DEFAULT_BASE_URL, "https://storage.neuralbox.top.evil.test/x"),
        (DEFAULT_BASE_URL, "https://evil.test/storage.neuralbox.top"),
        (DEFAULT_BASE_URL, "https://storage.neuralbox.top@evil.test/x"),
        (DEFAULT_BASE_URL, "https://evil.test#@storage.neuralbox.top/x"),
        (DEFAULT_BASE_URL, "https://evil.test\\@storage.neuralbox.top/x"),
        (DEFAULT_BASE_URL, "https://storage.neuralbox.top\\.evil.test/x"),
        (DEFAULT_BASE_URL, "https://user@storage.neuralbox.top/x"),
        (DEFAULT_BASE_URL, "https://127.0.0.1/x"),
        (DEFAULT_BASE_URL, "http://localhost/x"),
        (DEFAULT_BASE_URL, "http://169.254.169.254/latest/meta-data"),
        (DEFAULT_BASE_URL, "https://10.0.0.1/x"),
        (DEFAULT_BASE_URL, "file:///etc/passwd"),
        (DEFAULT_BASE_URL, "data:text/plain,x"),
        (DEFAULT_BASE_URL, "/generations/18500.mp4"),
        (DEFAULT_BASE_URL, "//storage.neuralbox.top/x"),
        (DEFAULT_BASE_URL, "https://storage.neuralbox.top:99999/x"),
        (DEFAULT_BASE_URL, "https://storage.neuralbox.top/\nx"),
        (DEFAULT_BASE_URL, ""),
        ("http://box.lan", "http://storage.neuralbox.top/x"),
        ("http://box.lan", "http://127.0.0.1/x"),
        ("http://127.0.0.1:8000", "http://box.lan/x"),
    ],
)
def test_a_result_of_any_other_host_is_not(base_url: str, url: str) -> None:
    """A server cannot make the client ask this machine, the cloud's metadata, or anybody, or drop the encryption."""
    with pytest.raises(ResponseError):
        checked_result_url(url, base_url=base_url, file_hosts=["files.test"])


def test_an_unknown_host_names_the_way_out() -> None:
    """Whoever trusts the host reads in the message what to pass."""
    with pytest.raises(ResponseError, match=r"file_hosts=\['s3\.test'\]"):
        checked_result_url("https://s3.test/x", base_url=DEFAULT_BASE_URL, file_hosts=[])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104 - the point
        ("128.0.0.1", False),
        ("::", False),
        ("localhost.test", False),
        ("notlocalhost", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:  # noqa: FBT001
    """Names and addresses that only look like this machine are not."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"timeout": -5}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": "60"}, "timeout must be"),
        ({"timeout": None}, "timeout must be"),
        ({"timeout": True}, "timeout must be"),
        ({"timeout": 10**400}, "timeout has more seconds than can be counted"),
        ({"poll_interval": 10**400}, "poll_interval has more seconds"),
        ({"max_retries": -1}, "max_retries must be a whole number of 0 or more"),
        ({"max_retries": 1.5}, "max_retries must be"),
        ({"look_price": 0}, "look_price must be"),
        ({"poll_interval": 0}, "poll_interval must be"),
        ({"poll_interval": -1}, "poll_interval must be"),
        ({"budget": -1}, r"Budget\(tokens=…\) takes a whole number"),
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    """Each wrong option is one line that names it, when the client is made and when it is viewed."""
    with pytest.raises(UsageError, match=f"^{message}"):
        AsyncNeuralBox(KEY, **options)
    if "budget" not in options:
        with pytest.raises(UsageError, match=f"^{message}"):
            AsyncNeuralBox(KEY).with_options(**options)


def test_key_and_base_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment speaks where no argument does."""
    monkeypatch.setenv("NEURALBOX_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("NEURALBOX_BASE_URL", "https://elumenta.ru/api/v2/")
    assert "'https://elumenta.ru/api/v2'" in repr(AsyncNeuralBox())
    assert "'https://api.test'" in repr(AsyncNeuralBox(base_url="https://api.test"))
    with pytest.raises(UsageError, match="No API key"):
        AsyncNeuralBox("")
    monkeypatch.setenv("NEURALBOX_API_KEY", "")
    with pytest.raises(UsageError, match="No API key"):
        AsyncNeuralBox()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("64:ff9b::5db8:d822", True),
        ("::ffff:93.184.216.34", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.5", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - the point
        ("100.100.100.200", False),
        ("169.254.169.254", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", False),
        ("::127.0.0.1", False),
        ("storage.neuralbox.top", False),
        ("", False),
    ],
)
def test_private_link_local_and_metadata_addresses_are_not_public(address: str, public: bool) -> None:  # noqa: FBT001
    """Nor are those that wrap one, or that a cloud keeps for itself."""
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://anybody.test/x", True),
        ("https://169.254.169.254/latest", True),
        ("https://storage.neuralbox.top/x", False),
        ("https://files.test/x", False),
        ("https://neuralbox.top/x", False),
    ],
)
def test_any_host_means_any_public_host(url: str, checked: bool) -> None:  # noqa: FBT001
    """`file_hosts=["*"]` lets any host through to the check of its addresses; those that are named need none."""
    hosts = ["files.test", "*"]
    assert checked_result_url(url, base_url=DEFAULT_BASE_URL, file_hosts=hosts) == url
    assert must_be_public(url, base_url=DEFAULT_BASE_URL, file_hosts=hosts) is checked


@pytest.mark.parametrize("url", ["http://anybody.test/x", "ftp://anybody.test/x", "https://a@anybody.test/x", "/x"])
def test_any_host_is_still_https(url: str) -> None:
    """Nothing else than the host is opened."""
    with pytest.raises(ResponseError):
        checked_result_url(url, base_url=DEFAULT_BASE_URL, file_hosts=["*"])
