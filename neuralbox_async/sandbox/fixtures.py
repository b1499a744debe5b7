"""One line in your conftest.py, and every test has a service of its own and a client wired to it.

    pytest_plugins = ["neuralbox_async.sandbox.fixtures"]

    @pytest.mark.anyio
    async def test_my_code(nb, sandbox):
        await my_code(nb)
        assert len(sandbox.charges) == 1

Uses anyio's pytest plugin, which anyio brings. Write a fixture `sandbox` of your own for another plan or balance, and
one named `anyio_backend` for a fast clock (see `sandbox.fast_clock`).
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from neuralbox_async import AsyncNeuralBox
from neuralbox_async.sandbox.sandbox import Sandbox


@pytest.fixture
def sandbox() -> Sandbox:
    """Return a fresh sandbox: VIP plan, 1,500 tokens."""
    return Sandbox()


@pytest.fixture
async def nb(anyio_backend: Any, sandbox: Sandbox) -> AsyncIterator[AsyncNeuralBox]:  # noqa: ARG001 - makes it anyio's
    """Yield a client wired to the test's sandbox, in process."""
    async with sandbox.client() as client:
        yield client
