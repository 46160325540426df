"""One network namespace while one call works in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from errno import EINVAL, ENODEV
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Self, TypeVar

from eniplug.core.kernel import decode, encode_links, uapi
from eniplug.core.kernel.decode import LinkInfo
from eniplug.core.kernel.elements import Elements, of_nft
from eniplug.core.kernel.home import Home
from eniplug.core.kernel.netlink import GONE, Message, NetlinkError, Socket
from eniplug.hooks import LinkState, Side, Sysctl
from eniplug.hooks.errors import KernelError

T = TypeVar("T")


class Namespace:
    """A network namespace, open for the length of one call.

    A pod's has a descriptor, ``netns``, and the ``home`` from which it is visited.  The
    host's has ``elements``, and takes a socket of those to ``spare``, and puts it back
    when all went well.
    """

    def __init__(
        self,
        side: Side,
        connect: Callable[[int], Socket],
        proc_sys: Path,
        *,
        netns: int = -1,
        home: Home | None = None,
        elements: Elements | None = None,
        spare: list[Socket] | None = None,
    ) -> None:
        self.side = side
        self.connect = connect
        self._netns = netns
        self._home = home
        self._proc_sys = proc_sys
        self._elements = elements
        self._links: dict[str, LinkInfo | None] = {}
        self._names: dict[int, str] = {}
        self._new: dict[str, int] = {}
        self._spare = spare
        try:
            self._socket = (spare or []).pop()
        except IndexError:
            self._socket = self._visit(partial(connect, uapi.NETLINK_ROUTE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._spare is None or error is not None:
            self._socket.close()
        else:
            self._spare.append(self._socket)

    def _visit(self, work: Callable[[], T]) -> T:
        return work() if self._home is None else self._home.visit(self._netns, work)

    def send(self, messages: Iterable[Message]) -> dict[int, NetlinkError]:
        """Have messages carried out; returns the refused ones by position.

        Neighbouring ones that are for nftables are one transaction.
        """
        messages = tuple(messages)
        subsystems = {message.type >> 8 for message in messages}
        if uapi.NFNL_SUBSYS_NFTABLES not in subsystems or self._elements is None:
            return self._socket.send(messages)
        refused: dict[int, NetlinkError] = {}
        start = 0
        for to_nft, group in groupby(messages, of_nft):
            part = tuple(group)
            send = self.elements.transact if to_nft else self._socket.send
            errors = send(part)
            refused |= {start + position: e for position, e in errors.items()}
            start += len(part)
        return refused

    def send_removals(self, messages: Iterable[Message]) -> list[str]:
        """Have messages carried out; returns what is wrong beyond absence, in words."""
        refused = self.send(messages).values()
        return [e.words for e in refused if e.errno not in GONE]

    def ask(self, request: Message) -> bytes:
        """Read one thing.  Raises NetlinkError."""
        return self._socket.get(request)

    @property
    def elements(self) -> Elements:
        """The nftables of the host."""
        assert self._elements is not None, "pods have no elements"
        return self._elements

    def dump(self, request: Message) -> list[bytes]:
        """Read what a request of `encode.look` asks for, be it nothing.

        Raises KernelError.
        """
        one = bool(request.flags & uapi.NLM_F_ECHO)
        try:
            return [self._socket.get(request)] if one else self._socket.dump(request)
        except NetlinkError as error:
            if error.errno in GONE:  # such as a table in which no route is
                return []
            if one and error.errno in {0, EINVAL}:  # a default qdisc is not shown
                return []
            msg = f"reading the {self.side}'s network: {error.strerror}"
            raise KernelError(msg) from error

    # -- links -------------------------------------------------------------------------

    @property
    def new(self) -> Collection[str]:
        """The names of the links that this call made."""
        return self._new.keys()

    def born(self, name: str, index: int) -> None:
        """Note a link that this call made."""
        self._new[name] = index

    def look(self, link: str | int) -> LinkInfo | None:
        """Ask the kernel for a link by name or number.  Raises KernelError."""
        try:
            return decode.link(self._socket.get(encode_links.look_link(link)))
        except NetlinkError as error:
            if error.errno in GONE:
                return None
            msg = f"looking for link {link}: {error.strerror}"
            raise KernelError(msg) from error

    def link(self, name: str) -> LinkInfo | None:
        """Return a link as it was when this call first looked."""
        if name not in self._links:
            found = self.look(name)
            self._links[name] = found
            if found is not None:
                self._names[found.index] = name
        return self._links[name]

    def learn_links(self) -> None:
        """Look at every link now: cheaper than one by one where many are wanted."""
        for link in self.links():
            self._links.setdefault(link.name, link)
            self._names.setdefault(link.index, link.name)

    def links(self) -> list[LinkInfo]:
        """Return every link."""
        return [decode.link(body) for body in self.dump(encode_links.LOOK_LINKS)]

    def index(self, name: str) -> int:
        """Return a link's number.  Raises NetlinkError (ENODEV)."""
        if name in self._new:
            return self._new[name]
        link = self.link(name)
        if link is None:
            raise NetlinkError(ENODEV, f"there is no link {name}")
        return link.index

    def name(self, index: int) -> str | None:
        """Return a link's name; None when it is gone."""
        if index not in self._names:
            found = self.look(index)
            if found is None:
                return None
            self._links[found.name] = found
            self._names[index] = found.name
        return self._names[index]

    # -- settings ----------------------------------------------------------------------

    def value(self, one: LinkState | Sysctl) -> str | None:
        """Return the present value as text; None without such a link or file."""
        if isinstance(one, LinkState):
            link = self.link(one.link)
            return None if link is None else str(link.setting(one.setting))
        path = self._proc_sys / one.path
        try:
            return " ".join(self._visit(path.read_text).split())
        except FileNotFoundError:
            return None

    def write(self, sysctl: Sysctl, value: str) -> None:
        """Write a file under /proc/sys.  Raises OSError."""
        path = self._proc_sys / sysctl.path

        def work() -> None:
            with path.open("r+") as file:
                file.write(value)

        self._visit(work)
