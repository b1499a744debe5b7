"""The process that is killed: a bulk run with a ledger and downloads, as anybody would write it.

Its exit code is that of the command line: 0 all done, 1 some failed, 3 something in doubt.
"""

import sys
from pathlib import Path

import anyio

from neuralbox_async import AsyncNeuralBox, OutcomeUnknownError, Pacing
from neuralbox_async.sandbox.world import KEY
from tests.kill.plan import Plan, read, requests


async def run(plan: Plan) -> int:
    """Begin the run, or go on with it."""
    code = 0
    pacing = Pacing({"clip": (0.2, 0.6)}, floor=0.05)
    async with (
        AsyncNeuralBox(KEY, base_url=plan.base_url, pacing=pacing, look_price=0.05) as nb,
        nb.generate_many(
            requests(plan.jobs),
            max_concurrency=plan.at_once,
            ledger=Path(plan.folder, "run.db"),
            download_to=Path(plan.folder, "results"),
            settle=plan.settle,
            resubmit_absent=plan.resubmit_absent,
        ) as outcomes,
    ):
        async for outcome in outcomes:
            if isinstance(outcome.error, OutcomeUnknownError):
                code = 3
            elif outcome.error is not None:
                print(f"{outcome.key}: {outcome.error!r}", file=sys.stderr)
                code = code or 1
    return code


if __name__ == "__main__":
    sys.exit(anyio.run(run, read(sys.argv[1])))
