from __future__ import annotations

import re
from pathlib import Path

from eniplug.lab.node import IMAGES

DOCKERFILE = Path(__file__).parents[2] / "deploy/Dockerfile"


def test_a_labs_agents_have_their_memory_as_the_images() -> None:
    (line,) = re.findall(r"^ENV (PYTHONMALLOC=.*)$", DOCKERFILE.read_text(), re.M)

    assert dict(pair.split("=", 1) for pair in line.split()) == IMAGES
