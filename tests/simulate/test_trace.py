from __future__ import annotations

from pathlib import Path

import pytest

from eniplug.hooks.errors import ReadError
from eniplug.simulate.trace import DAY, PodTime, make_trace, read_trace


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_a_trace_is_read_in_order_of_starts_with_or_without_names(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, "start,end,name\n20,30.5\n\n1,2, web \n")

    assert read_trace(path) == (
        PodTime(start=1, end=2, name="web"),
        PodTime(start=20, end=30.5, name="line-2"),
    )


@pytest.mark.parametrize(
    "line", ["5", "a,b", "5,4", "-1,4", "1,nan", "1,inf", "1,2,web,more"]
)
def test_a_line_that_is_no_pod_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ReadError, match="line 2") as caught:
        read_trace(written(tmp_path, f"1,2\n{line}\n"))

    assert line in caught.value.message


def test_a_trace_without_pods_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no pod"):
        read_trace(written(tmp_path, "start,end\n"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="absent"):
        read_trace(tmp_path / "absent.csv")


def test_a_seed_makes_the_same_trace_each_time_and_another_one_another() -> None:
    assert make_trace(2, 20, seed=1) == make_trace(2, 20, seed=1)
    assert make_trace(2, 20, seed=1) != make_trace(2, 20, seed=2)


def test_a_made_trace_has_as_many_pods_running_as_asked() -> None:
    trace = make_trace(30, 60, seed=3)

    ran = sum(min(pod.end, 30 * DAY) - pod.start for pod in trace)

    assert ran / (30 * DAY) == pytest.approx(60, rel=0.1)


def test_a_made_trace_is_in_order_and_its_names_are_unique() -> None:
    trace = make_trace(3, 30, seed=1)

    assert [p.start for p in trace] == sorted(p.start for p in trace)
    assert len({p.name for p in trace}) == len(trace)
    assert all(0 <= pod.start <= pod.end for pod in trace)
