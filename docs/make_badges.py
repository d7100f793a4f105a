"""Make the badges of the README: ``python docs/make_badges.py``."""

import tomllib
from pathlib import Path

COVERAGE = 97
"""Percent of the lines, by ``python -m pytest -n 2 --cov=rnn_lightning``, 2026-11-30."""

ROOT = Path(__file__).parent.parent
BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" aria-label="{name}: {value}">
<rect width="{width}" height="20" rx="3" fill="#555"/>
<path d="M{left} 0h{right}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="{colour}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{name_at}" y="14">{name}</text>
<text x="{value_at}" y="14">{value}</text>
</g>
</svg>
"""


def badge(name: str, value: str, colour: str) -> str:
    """Return a badge as SVG; a letter takes seven pixels."""
    left, right = 7 * len(name) + 10, 7 * len(value) + 10
    places = {"name_at": left / 2, "value_at": left + right / 2}
    return BADGE.format(
        name=name, value=value, colour=colour, width=left + right, left=left, right=right - 3, **places
    )


def badges() -> dict[str, str]:
    """Return the badges by file name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "coverage": badge("coverage", f"{COVERAGE} %", "#4c1"),
        "licence": badge("licence", project["license"], "#007ec6"),
        "python": badge("python", project["requires-python"].replace(">=", "") + "+", "#007ec6"),
    }


if __name__ == "__main__":
    for file, text in badges().items():
        (ROOT / f"docs/badges/{file}.svg").write_text(text)
