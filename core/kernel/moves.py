"""Whether a link of the node came, went or changed since this was asked last.

Nobody is woken for it.  The kernel keeps the first notifications until they are asked
for, and drops what there is no room for: that some were dropped says the same.
"""

from __future__ import annotations

import errno

from eniplug.core.kernel import uapi
from eniplug.core.kernel.watch import listen


class Moves:
    """Listens in the namespace of the thread that makes it, to everybody's changes."""

    def __init__(self) -> None:
        self._socket = listen(uapi.NETLINK_ROUTE, (uapi.RTNLGRP_LINK,), buffer=1)

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()

    def any(self) -> bool:
        """Tell whether there was any since the last call, and forget it."""
        found = False
        while True:
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            found = True
