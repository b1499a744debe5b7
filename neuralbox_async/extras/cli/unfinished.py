"""What the service took and nobody has reported yet is known at every moment, so that no end of the run loses it.

It learns from the client's events and forgets what is reported: it is never larger than what is under way.
"""

from attrs import define, evolve, field, frozen

from neuralbox_async import Abandoned, Accepted, Event, Generation, GenerationRequest, Looked


@frozen(kw_only=True)
class Taken:
    """A generation that the service has: what was asked for, if we asked for it, and the last that is known."""

    request: GenerationRequest | None
    generation: Generation


@define
class Unfinished:
    """What is asked and has no answer yet, generations under way by id, and requests cut off before their answer."""

    asked: list[GenerationRequest] = field(factory=list[GenerationRequest])
    taken: dict[int | str, Taken] = field(factory=dict[int | str, Taken])
    in_doubt: list[GenerationRequest] = field(factory=list[GenerationRequest])

    def ask(self, request: GenerationRequest) -> None:
        """Take in a request that is about to be sent."""
        self.asked.append(request)

    def hear(self, event: Event) -> None:
        """Take in an event of the client."""
        match event:
            case (
                Accepted(request=request, generation=generation)
                | Abandoned(request=request, generation=Generation() as generation)
            ):
                self._answered(request)
                # Who abandons one that is known already may know less of it than its last look.
                self.taken.setdefault(generation.id, Taken(request=request, generation=generation))
            case Abandoned(request=request):
                self._answered(request)
                self.in_doubt.append(request)
            case Looked(generation=generation) if generation.id in self.taken:
                self.taken[generation.id] = evolve(self.taken[generation.id], generation=generation)
            case _:
                pass

    def cut_short(self) -> None:
        """Doubt every request without an answer: there is no time to learn which of them had left."""
        self.in_doubt += self.asked
        self.asked.clear()

    def forget(self, request: GenerationRequest | None, generation: Generation | None) -> None:
        """Drop what is reported."""
        self._answered(request)
        if generation is not None:
            self.taken.pop(generation.id, None)

    def _answered(self, request: GenerationRequest | None) -> None:
        if request in self.asked:
            self.asked.remove(request)
