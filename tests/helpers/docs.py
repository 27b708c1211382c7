"""Examples of the documentation, so that tests run what users read."""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def code_blocks(page: str, section: str) -> dict[str, str]:
    """Return the blocks of code below a heading of a Markdown file by their language, of each the first."""
    text = (_ROOT / page).read_text(encoding="utf-8")
    body = re.split(r"^## ", text.split(f"## {section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
    return dict(reversed(blocks))
