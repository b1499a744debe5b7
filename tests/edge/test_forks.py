"""After a fork: an unused client works in the child, one that was in use says why it does not."""

import os
import subprocess
import sys

import pytest

FORKS = """
import os, sys, anyio, httpx
from neuralbox_async import AsyncNeuralBox, ClientClosedError

def answer(request):
    return httpx.Response(200, json={"id": 7, "status": "pending"})

nb = AsyncNeuralBox("nb_test_key", http_client=httpx.AsyncClient(transport=httpx.MockTransport(answer)))

async def inside():
    if sys.argv[2] == "used":
        await nb.get(7)
    if sys.argv[3] == "in the loop" and os.fork():
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    try:
        await nb.get(7)
    except ClientClosedError as error:
        assert "forked" in str(error), error
        os._exit(3)
    os._exit(4)

async def once():
    await nb.get(7)

if sys.argv[3] == "before the loop":
    if sys.argv[2] == "used":
        anyio.run(once, backend=sys.argv[1])
    if os.fork():
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    sys.argv[2] = "as it is"
anyio.run(inside, backend=sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("backend", "where"),  # asyncio itself refuses to go on in a loop that was forked
    [("asyncio", "before the loop"), ("trio", "before the loop"), ("trio", "in the loop")],
)
@pytest.mark.parametrize(("state", "code"), [("used", 3), ("unused", 4)])
def test_a_client_after_a_fork(backend: str, state: str, code: int, where: str) -> None:
    """Servers that load first and fork then share an unused client; parent and child never share a connection."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS, backend, state, where]
    assert subprocess.run(command, check=False, timeout=60).returncode == code
