"""A hook of mkdocs: what docs/ links to elsewhere in the repository is part of the site, at its own path."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]
_PAGES: Final = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/README.md", "config/ansible/README.md")
"""Those that the navigation names."""
_LINK: Final = re.compile(r"(\]\()([^):#]+)([^)]*\))")


def _real(uri: str) -> Path:
    """Return the file that is a part of the site."""
    inside = ROOT / "docs" / uri
    return inside if inside.exists() else ROOT / uri


def _target(uri: str, link: str) -> str:
    """Return the part of the site that `link`, in the page `uri`, leads to in the repository."""
    path = os.path.relpath(os.path.normpath(_real(uri).parent / link), ROOT)
    return path.removeprefix("docs/")


def on_files(files: Files, config: Any) -> Files:
    """Called by mkdocs with what stands in docs/: add what is linked to from there, and from what is added."""
    pages = [file.src_uri for file in files.documentation_pages()] + [*_PAGES]
    seen = set()
    while pages:
        page = pages.pop()
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
        if not page.endswith(".md") or page in seen:
            continue
        seen.add(page)
        links = _LINK.findall(_real(page).read_text())
        pages += [uri for _, link, _ in links if _real(uri := _target(page, link)).is_file()]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs with a page: return it with its links as they are in the site."""
    here = page.file.src_uri

    def there(found: re.Match[str]) -> str:
        link = posixpath.relpath(_target(here, found[2]), posixpath.dirname(here) or ".")
        return f"{found[1]}{link}{found[3]}"

    return _LINK.sub(there, markdown)
