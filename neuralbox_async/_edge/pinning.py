"""Where any host is allowed, a name is looked up once, and the connection goes to the very address that was checked.

So no name, and no second answer of a name server, leads into this machine's own network.
"""

import socket
from functools import partial

from neuralbox_async._core.addresses import is_public
from neuralbox_async._core.errors import APIConnectionError, ResponseError
from neuralbox_async._edge import clock


async def public_address(host: str, port: int, *, attempt: int) -> str:
    """Look up a host and return one of its addresses, another one at each attempt.

    Raises ResponseError if any of them is not one of the public internet, APIConnectionError if there is none.
    """
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = await clock.run_blocking(look_up)
    except (OSError, UnicodeError) as error:
        reason = str(error)
    else:
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        inside = [each for each in addresses if not is_public(each)]
        if inside:
            raise ResponseError(
                f"The result lies on {host}, which is {inside[0]} here: no address of the public internet. "
                f"If you trust it, pass file_hosts=[{host!r}] to AsyncNeuralBox."
            )
        if addresses:
            return addresses[attempt % len(addresses)]
        reason = "it has no address"
    raise APIConnectionError(f"The result's host {host} was not found ({reason}); try again later.", retryable=True)
