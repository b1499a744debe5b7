"""A sandbox that books every POST it has read, answers it only after a while, and knows which are still unanswered."""

import anyio
from attrs import define, evolve, field

from neuralbox_async.sandbox import Answer, Ask, Connection, Model, Sandbox

# A plan's windows are no question here.
PLAN = "elite"


def models(seconds: float) -> dict[str, Model]:
    """Return three models that take this long: two that answer in the POST, and one that is looked at."""
    kinds = {"text": "text", "picture": "image", "clip": "video"}
    return {
        slug: Model(slug=slug, kind=kind, tokens=(1, 1), seconds=(seconds, seconds), draw=lambda _: seconds)  # type: ignore[arg-type]
        for slug, kind in kinds.items()
    }


@define
class Service:
    """The sandbox on its way to `serve`.

    Attributes:
        sandbox: The world behind it.
        seconds: How long an answer to a POST takes.
        posted: Set when as many POSTs have been read as `new_client` was told.
    """

    sandbox: Sandbox
    seconds: float
    posted: anyio.Event = field(factory=anyio.Event, init=False)
    _left: int = field(default=1, init=False)
    _due: list[float] = field(factory=list[float], init=False)

    def refusal(self, method: str, path: str) -> Connection | None:
        """Refuse nothing of its own accord."""
        return self.sandbox.refusal(method, path)

    def answer(self, ask: Ask, clock: float) -> Answer:
        """Let the sandbox do what is asked, and let a POST wait for its answer."""
        answer = self.sandbox.answer(ask, clock)
        if ask.method != "POST":
            return answer
        self._left -= 1
        if self._left == 0:
            self.posted.set()
        answer = evolve(answer, delay=max(self.seconds, answer.delay))
        self._due.append(clock + answer.delay)
        return answer

    def unanswered(self) -> int:
        """Return how many POSTs have been booked and wait for their answer."""
        now = anyio.current_time()
        self._due = [due for due in self._due if due > now]
        return len(self._due)

    def new_client(self, posts: int) -> None:
        """Forget what an earlier client has asked, and tell when this one has sent so many POSTs."""
        self.posted, self._left = anyio.Event(), posts
        self._due.clear()
