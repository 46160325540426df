from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, get_type_hints

import pytest
from attrs import evolve, fields, validators
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eniplug.core.codec import FROZEN
from eniplug.core.parts import Part
from eniplug.core.records import record_of
from eniplug.hooks import Allocation, Eni, Nic, Object, Pod, Qdisc, Rule
from eniplug.hooks.objects import KINDS

SAID: Final = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inside: (
            st.lists(inside, max_size=2)
            | st.dictionaries(st.text(max_size=5), inside, max_size=2)
        ),
        max_leaves=5,
    ),
    max_size=2,
)
"""What a runtime says: any JSON."""

PLAIN: Final[Mapping[type, Mapping[str, st.SearchStrategy[Any]]]] = {
    Qdisc: {"discipline": st.just("ingress")}
    | dict.fromkeys(("rate", "burst", "limit"), st.just(0)),
    Rule: dict.fromkeys(("src", "dst"), st.none()),
}
"""What objects that look at more than one field at a time are made of."""


def of(kind: type[Any], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Make values of a class by its fields' types alone."""
    hints = get_type_hints(kind)
    rest = {field.name for field in fields(kind)} - set(more)
    return st.builds(kind, **{name: st.from_type(hints[name]) for name in rest}, **more)


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=2).map(tuple)


PARTS: Final = of(
    Part,
    pod=of(Pod, runtime=SAID, prev=st.none() | SAID),
    allocation=st.builds(Allocation, nics=some(of(Nic, eni=st.none() | of(Eni)))),
    objects=st.just(()),
    made=st.floats(0, 1e10),
    result=st.none() | SAID,
)
FEW: Final = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("kind", KINDS)
@FEW
@given(data=st.data())
def test_a_record_is_what_plain_cattrs_writes(
    kind: type[Object], data: st.DataObject
) -> None:
    with validators.disabled():  # what is valid is not the writer's matter
        objects = data.draw(some(of(kind, **PLAIN.get(kind, {}))))
        part = evolve(data.draw(PARTS), objects=objects)

        bare = evolve(part, result=None)
        assert record_of(part) == json.dumps(FROZEN.unstructure(bare))


@FEW
@given(part=PARTS)
def test_a_record_is_read_again(part: Part) -> None:
    bare = evolve(part, result=None)
    assert FROZEN.structure(json.loads(record_of(part)), Part) == bare
