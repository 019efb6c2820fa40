"""Check that each link of the Markdown files here leads to a file, and a heading, that exist. Looks at no address on the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LINK_WORDS = re.compile(r"\[([^\]]*)\]\([^)]*\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ANCHOR = re.compile(r'<a id="([^"]+)">')


def broken_links(page: Path) -> list[str]:
    """The links of one page whose file, or whose heading in a Markdown file, is missing."""
    targets = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in targets if "://" not in target and not target.startswith("mailto:") and not leads_somewhere(page, target)]


def leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = unquote(target).partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not anchor or file.suffix != ".md" or anchor in anchors(file))


def anchors(page: Path) -> set[str]:
    """Those that are written down, and those that headings get: lower case, a hyphen for each space, no punctuation."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    headings = (LINK_WORDS.sub(r"\1", heading).strip().lower() for heading in HEADING.findall(text))
    return {*ANCHOR.findall(text), *(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings)}


def missing_twin(page: Path) -> bool:
    """Whether a page in one language says that it has a twin, and has none."""
    return page.name.endswith(".zh-CN.md") and not page.with_name(page.name.replace(".zh-CN.md", ".md")).exists()


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pages = [ROOT / name for name in listed.split("\0") if name]
    problems = [f"{page.relative_to(ROOT)}: {target} leads nowhere" for page in pages for target in broken_links(page)]
    problems += [f"{page.relative_to(ROOT)}: its English twin is missing" for page in pages if missing_twin(page)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(pages)} pages, {len(problems)} broken links")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
