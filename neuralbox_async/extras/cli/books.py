"""What a run has cost is held against what the account has lost; a difference is told, and never explained away."""

from typing import Final

from neuralbox_async import AsyncNeuralBox, Balance, NeuralBoxError
from neuralbox_async.extras.cli.asking import told
from neuralbox_async.extras.cli.wording import many

TIMEOUT_SECONDS: Final = 30.0


async def balance_before(nb: AsyncNeuralBox) -> Balance | None:
    """Ask for the balance before anything is begun; None if the service does not tell it. Raises as `told`."""
    return await told(nb.balance(timeout=TIMEOUT_SECONDS))


async def balance_after(nb: AsyncNeuralBox) -> int | None:
    """Ask for the balance at the end; None if it cannot be had: the run is done all the same."""
    try:
        return (await nb.balance(timeout=TIMEOUT_SECONDS)).token_balance
    except NeuralBoxError:
        return None


def compared(before: int | None, after: int | None, spent: int, *, witness: str) -> str | None:
    """Return how the tokens that a witness knows of agree with the balance; None if that is not known."""
    if before is None or after is None:
        return None
    lost = before - after
    said = f"Balance {before:,} before, {after:,} after: "
    if lost < 0:
        return f"{said}{many(-lost, 'token')} more, though {witness} says that {spent:,} were spent: tokens were added."
    said += f"{many(lost, 'token')} less, "
    if lost == spent:
        return f"{said}as {witness} says."
    if lost > spent:
        return f"{said}{lost - spent:,} more than {witness} says: what goes on, or something else, has spent them."
    return f"{said}{spent - lost:,} fewer than {witness} says: tokens were added, or are not booked yet."
