"""`neuralbox demo`: the whole way over real sockets, against a sandbox on this machine whose time runs faster.

Everything goes through the public API, as any program's would. The client knows the sandbox's shortened durations as a
client of the real service knows the documented ones.
"""

from typing import Final

import anyio
from attrs import define, field
from rich.console import Console

from neuralbox_async import AsyncNeuralBox, Event, Looked, Outcome
from neuralbox_async.extras.cli.batch import make_batch
from neuralbox_async.extras.cli.exits import DONE, FAILED
from neuralbox_async.extras.cli.figures import LOOP_SECONDS, Figures, Way, as_frugal_loop, count, loop_way, mean
from neuralbox_async.extras.cli.places import ready_folder
from neuralbox_async.extras.cli.screen import Screen, kind_of
from neuralbox_async.extras.cli.signals import Work, carry_out
from neuralbox_async.extras.cli.tables import draw
from neuralbox_async.extras.cli.wording import many
from neuralbox_async.sandbox import Sandbox, faults, serve

DEFAULT_OUT: Final = "neuralbox-demo/"
SPEED: Final = 8.0
AT_ONCE: Final = 12
BALANCE: Final = 1_500
# Elite has no hourly limit, and the demo asks more often than VIP may in an hour; the one 429 is to be ours.
PLAN: Final = "elite"
# A 429 stops looks as well. It strikes among the first POSTs and is over before anything slow is done, so that the mean
# time of results unseen tells of the pacing and not of the pause.
PAUSE_SECONDS: Final = 0.8
POSTS_BEFORE_PAUSE: Final = 8
PATIENCE_SECONDS: Final = 1.0


def demo(out: str) -> int:
    """Run the demo, show it, and return the exit code: failed if the account lost other than what the outcomes say."""
    ready_folder(out)
    screen = Screen(Console(stderr=True), totals=totals())
    run = DemoRun(out=out, screen=screen)

    async def work() -> int:
        figures = await run.run()
        draw(Console(), figures, out)
        return DONE if figures.adds_up else FAILED

    def last_words(code: int) -> int:
        screen.stop()
        if code not in (DONE, FAILED):
            screen.say(f"stopped: {many(run.saved, 'result')} saved in {out}")
        return code

    return carry_out(
        Work(run=work, say=screen.say, last_words=last_words, patience=PATIENCE_SECONDS, on_signal="stopping")
    )


def totals() -> dict[str, int]:
    """Return how many of each kind the demo asks for."""
    kinds = [kind_of(request.model) for request in make_batch()]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


@define
class DemoRun:
    """One run, and what is measured on the way."""

    out: str
    screen: Screen
    saved: int = field(default=0, init=False)
    _sandbox: Sandbox = field(init=False)
    _offset: float = field(default=float("inf"), init=False)
    _seen: dict[str, float] = field(factory=dict[str, float], init=False)

    def __attrs_post_init__(self) -> None:
        """Open the sandbox, with one 429 on its way."""
        self._sandbox = Sandbox(plan=PLAN, balance=BALANCE, speed=SPEED)
        self._sandbox.order(faults.rate_limited(PAUSE_SECONDS), skip=POSTS_BEFORE_PAUSE)

    async def run(self) -> Figures:
        """Generate the batch and return what came of it."""
        async with serve(self._sandbox) as base_url, self._client(base_url) as nb:
            self.screen.say(self.greeting(base_url))
            began = anyio.current_time()
            before = await nb.balance()
            with self.screen:
                outcomes = await self._outcomes(nb)
            after = await nb.balance()
            return self._figures(outcomes, before.token_balance, after.token_balance, anyio.current_time() - began)

    def greeting(self, base_url: str) -> str:
        """Return what the demo says of itself."""
        return (
            f"A NeuralBox of our own at {base_url}, {SPEED:g} times as fast as the real one.\n"
            f"{sum(totals().values())} generations, {AT_ONCE} at once; three are meant to fail, one POST meets a 429.\n"
        )

    def _client(self, base_url: str) -> AsyncNeuralBox:
        return AsyncNeuralBox(
            self._sandbox.key,
            base_url=base_url,
            pacing=self._sandbox.pacing(),
            look_price=self._sandbox.look_price,
            observe=self._hear,
        )

    async def _outcomes(self, nb: AsyncNeuralBox) -> list[Outcome]:
        taken = []
        requests = make_batch()
        for request in requests:
            self.screen.begun(request.model)
        async with nb.generate_many(requests, max_concurrency=AT_ONCE, download_to=self.out) as outcomes:
            async for outcome in outcomes:
                self._show(outcome)
                taken.append(outcome)
        return taken

    def _show(self, outcome: Outcome) -> None:
        spent = outcome.generation.tokens_spent if outcome.generation else None
        self.saved += outcome.path is not None
        self.screen.settled(outcome.request.model, outcome.error, spent)
        if outcome.error is not None:
            reason = outcome.generation.error if outcome.generation else outcome.error
            self.screen.say(f"{outcome.key} failed: {reason}")
        elif not self.screen.live:
            self.screen.say(f"{outcome.key}: {outcome.request.model}, {many(spent or 0, 'token')}, {outcome.path}")

    def _hear(self, event: Event) -> None:
        now = anyio.current_time()
        # The sandbox's time stands still between requests, so the smallest distance between the clocks is the true one.
        self._offset = min(self._offset, now - self._sandbox.world.now)
        if isinstance(event, Looked) and event.generation.done:
            self._seen[str(event.generation.id)] = now
        self.screen.hear(event)

    def _figures(self, outcomes: list[Outcome], before: int, after: int, seconds: float) -> Figures:
        kinds, models = count(outcomes)
        jobs, posts = self._sandbox.world.jobs, self._sandbox.requests.posts
        unseen = [(at - self._offset - jobs[id_].due) * SPEED for id_, at in self._seen.items()]
        durations = [(job.due - job.created) * SPEED for job in jobs.values() if job.model.slow]
        looks = self._sandbox.requests.looks
        ours = Way(name="neuralbox_async", posts=posts, looks=looks, unseen_seconds=mean(unseen))
        return Figures(
            kinds=kinds,
            models=models,
            balance_before=before,
            balance_after=after,
            ours=ours,
            loop=loop_way(durations, every=LOOP_SECONDS, posts=posts),
            frugal_loop=as_frugal_loop(durations, ours=ours),
            speed=SPEED,
            seconds=seconds,
            files=self.saved,
        )
