"""Write the section `env` of the chart's values anew, from docs/operate.md."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs/operate.md"
VALUES = HERE / "helm/eniplug/values.yaml"

ELSEWHERE = {"ENIPLUG_METRICS_ADDR", "ENIPLUG_CONFLIST", "MY_NODE_NAME"}
"""What the chart sets by other values."""

EARLY_DEMUX = (
    "Of the install alone: whether net.ipv4.tcp_early_demux is switched off."
    " Accepted: true or false. Default: not set, and left alone."
)


def settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield each variable's name and what is said of it, as the document has it."""
    text = text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    for row in re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.M):
        name, cells = row[0], row[1].split(" | ")
        if name in ELSEWHERE:
            continue
        if len(cells) == 1:
            yield name, plain(cells[0])
            continue
        default, accepted, meaning = map(plain, cells)
        accepted = accepted.partition(" (also")[0]
        yield name, f"{meaning} Accepted: {accepted}. Default: {default}."
    yield "DISABLE_TCP_EARLY_DEMUX", EARLY_DEMUX


def plain(text: str) -> str:
    """Leave out what Markdown needs."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "")


def main() -> None:
    """Replace the section."""
    lines = ["env:"]
    for name, said in settings(DOCUMENT.read_text()):
        lines += [f"  # {line}" for line in textwrap.wrap(said, 86)]
        lines.append(f"  {name}: null")
    old = VALUES.read_text()
    before, rest = old.split("\nenv:\n")
    after = rest[re.search(r"^\S", rest, re.M).start() :]  # type: ignore[union-attr]
    section = "\n".join(lines)
    VALUES.write_text(f"{before}\n{section}\n\n{after}")


if __name__ == "__main__":
    main()
