"""Qdiscs to netlink and back (tc(8), tc-tbf(8); net/sched/sch_api.c, sch_tbf.c).

A tbf's burst goes out in bytes (TCA_TBF_BURST) and comes back as time, in ticks of
64 ns.  The way from one to the other is the kernel's own arithmetic, so that what was
asked for and what is there can be compared exactly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from attrs import evolve

from eniplug.core.kernel import uapi
from eniplug.core.kernel.attributes import attribute, attributes, nest, text, u32
from eniplug.hooks import Qdisc, Side

TCMSG: Final = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info

_TBF: Final = struct.Struct("=BBHhHI12xIII")
# rate: cell_log, link layer, overhead, cell_align, mpu, bytes a second; then the peak
# rate, which is none; limit in bytes, burst in ticks, mtu in ticks
_U64: Final = struct.Struct("=Q")
_TICK: Final = 64
_SECOND: Final = 1_000_000_000
_U32_MAX: Final = 0xFFFFFFFF

JUST_ONE: Final = uapi.NLM_F_ECHO | uapi.NLM_F_ACK
"""Flags to ask for one qdisc: the kernel tells everybody but who asked without the one,
and nobody that there is none without the other."""

_PARENTS: Final = {"tbf": uapi.TC_H_ROOT, "ingress": uapi.TC_H_INGRESS}


def body(one: Qdisc, index_of: Callable[[str], int]) -> bytes:
    """Pack what makes a qdisc, and what deletes the one in its place."""
    head = _head(one, index_of) + text(uapi.TCA_KIND, one.discipline)
    return head + nest(uapi.TCA_OPTIONS, *_options(one))


def among(one: Qdisc, index_of: Callable[[str], int], wide: bool) -> bytes:
    """Pack what asks for the qdisc in its place."""
    del wide
    return _head(one, index_of)


def _head(one: Qdisc, index_of: Callable[[str], int]) -> bytes:
    return TCMSG.pack(0, index_of(one.link), 0, _PARENTS[one.discipline], 0)


def _options(one: Qdisc) -> tuple[bytes, ...]:
    if one.discipline == "ingress":
        return ()
    rate = min(one.rate, _U32_MAX)
    ethernet = uapi.TC_LINKLAYER_ETHERNET
    parms = _TBF.pack(0, ethernet, 0, 0, 0, rate, one.limit, _ticks(one), 0)
    return (
        attribute(uapi.TCA_TBF_PARMS, parms),
        attribute(uapi.TCA_TBF_RATE64, _U64.pack(one.rate)),
        u32(uapi.TCA_TBF_BURST, one.burst),
    )


def _ticks(one: Qdisc) -> int:
    """Say how long a burst takes at its rate, as psched_l2t_ns has it."""
    factor, shift = _SECOND, 0
    while True:
        mult = factor // one.rate
        if mult & 1 << 31 or factor & 1 << 63:
            break
        factor <<= 1
        shift += 1
    return (one.burst * mult >> shift) // _TICK


def _bytes(ticks: int, rate: int) -> int:
    return ticks * _TICK * rate // _SECOND


def canonical(one: Qdisc) -> Qdisc:
    """Bring a qdisc into the one form in which `read` gives it."""
    if one.discipline == "ingress":
        return one
    return evolve(one, burst=_bytes(_ticks(one), one.rate))


def was_made(data: bytes) -> bool:
    """Tell a qdisc that somebody made from a link's default, which has no handle."""
    return bool(TCMSG.unpack_from(data)[2])


def read(data: bytes, side: Side, name_of: Callable[[int], str | None]) -> Qdisc | None:
    """Read one RTM_NEWQDISC; None for what no `Qdisc` can say."""
    _, index, _, parent, _ = TCMSG.unpack_from(data)
    a = dict(attributes(data, TCMSG.size))
    kind = a.get(uapi.TCA_KIND, b"").rstrip(b"\0").decode()
    name = name_of(index)
    if name is None or _PARENTS.get(kind) != parent:
        return None
    if kind == "ingress":
        return Qdisc(link=name, discipline="ingress", side=side)
    options = dict(attributes(a.get(uapi.TCA_OPTIONS, b"")))
    parms = options.get(uapi.TCA_TBF_PARMS, b"")
    if len(parms) < _TBF.size or any(parms[12:24]):
        return None
    _, _, overhead, _, mpu, rate, limit, ticks, _ = _TBF.unpack_from(parms)
    if overhead or mpu:
        return None
    if uapi.TCA_TBF_RATE64 in options:
        rate = _U64.unpack(options[uapi.TCA_TBF_RATE64])[0]
    burst = _bytes(ticks, rate)
    try:
        return Qdisc(
            link=name, discipline="tbf", rate=rate, burst=burst, limit=limit, side=side
        )
    except ValueError:
        return None
