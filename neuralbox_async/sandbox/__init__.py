"""A NeuralBox service in your own process, for tests, demos and benchmarks: no account, no network, no cost.

    from neuralbox_async.sandbox import Sandbox, faults

    async def test_the_answer_gets_lost():
        sandbox = Sandbox(balance=100)
        sandbox.order(faults.lost())
        async with sandbox.client() as nb:
            with pytest.raises(OutcomeUnknownError):
                await nb.generate("gpt-5", "Hello")
        assert len(sandbox.charges) == 1

The same sandbox on a port, for programs that take a base URL (extra `sandbox`):

    async with serve(sandbox) as base_url: ...

`VirtualTimeLoop` makes hours pass in milliseconds; `neuralbox_async.sandbox.fixtures` has pytest fixtures.
"""

from neuralbox_async.sandbox import faults
from neuralbox_async.sandbox.account import Charge
from neuralbox_async.sandbox.asgi import asgi_app
from neuralbox_async.sandbox.catalogue import CATALOGUE, Model
from neuralbox_async.sandbox.counts import UNANSWERED, Requests
from neuralbox_async.sandbox.fast_clock import VirtualTimeLoop
from neuralbox_async.sandbox.faults import Fault
from neuralbox_async.sandbox.plans import PLANS, Plan
from neuralbox_async.sandbox.sandbox import Sandbox
from neuralbox_async.sandbox.server import serve
from neuralbox_async.sandbox.transport import SandboxTransport, http_client
from neuralbox_async.sandbox.wire import Answer, Ask, Connection
from neuralbox_async.sandbox.world import World

__all__ = [
    "CATALOGUE",
    "PLANS",
    "UNANSWERED",
    "Answer",
    "Ask",
    "Charge",
    "Connection",
    "Fault",
    "Model",
    "Plan",
    "Requests",
    "Sandbox",
    "SandboxTransport",
    "VirtualTimeLoop",
    "World",
    "asgi_app",
    "faults",
    "http_client",
    "serve",
]
