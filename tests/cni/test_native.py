"""The native executables that are shipped belong to their source and need nothing."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import pytest

from eniplug.cni import executable, native_path

PYTHON = Path(executable.__file__)
FOLDER = PYTHON.with_name("native")
MACHINES = {"x86_64": 62, "aarch64": 183}
"""ELF's numbers for them."""

INTERPRETER = 3
"""Type of the program header that names a dynamic linker."""


def test_what_is_shipped_was_built_of_this_source() -> None:
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}

    assert set(sums) == {"eniplug.c", *(f"eniplug-{machine}" for machine in MACHINES)}
    for name, digest in sums.items():
        found = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
        assert found == digest, f"{name} was changed: tox run -e native -- write"


@pytest.mark.parametrize("machine", MACHINES)
def test_it_is_a_static_program_for_its_machine(machine: str) -> None:
    path = native_path(machine)
    assert path is not None
    data = path.read_bytes()

    assert data[:6] == b"\x7fELF\x02\x01"
    assert struct.unpack_from("<H", data, 18) == (MACHINES[machine],)
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    kinds = [struct.unpack_from("<I", data, start + i * size)[0] for i in range(count)]
    assert INTERPRETER not in kinds


@pytest.mark.parametrize("machine", ["riscv64", "", "../native/eniplug"])
def test_another_machine_has_none(machine: str) -> None:
    assert native_path(machine) is None


def test_both_executables_have_the_same_constants() -> None:
    source = (FOLDER / "eniplug.c").read_text()
    times = (executable.RETRY, executable.PATIENCE[b"ADD"], executable.LESS_PATIENCE)
    settings = ", ".join(f"{time * 1e6:.0f}" for time in times)

    assert f'{{"{executable.FOLDER}", {settings}}};' in source
    assert f"MOST = {executable.MOST}," in source
    assert f"PAUSE = {executable.PAUSE * 1e6:.0f}," in source
    assert f"HEAD = {executable.HEAD}," in source
    assert ", ".join(f'"{version}"' for version in executable.VERSIONS) in source


def test_both_executables_give_the_same_reasons_and_remedies() -> None:
    reasons = re.compile(r'"((?:bad|agent|read)-[a-z]+(?:: [^"]*)?)"')

    here, there = (
        set(reasons.findall(path.read_text()))
        for path in (FOLDER / "eniplug.c", PYTHON)
    )

    assert here
    assert here == there


def test_the_source_can_be_read_in_one_sitting() -> None:
    source = (FOLDER / "eniplug.c").read_text()

    assert len(source.splitlines()) <= 300
    assert "malloc" not in source
