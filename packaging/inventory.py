"""What a package is made of: a bill of materials (CycloneDX 1.6) and the licences, from what is installed in its tree.

    PYTHON -I packaging/inventory.py TREE TARGET REPORT

writes TARGET/sbom.cdx.json and TARGET/copyright. PYTHON is the interpreter that the tree is for, REPORT is pip's of its
installation, which has the hash of each wheel.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final

_LINKED: Final = {
    "uvloop": [("libuv", "2015-present libuv project contributors")],
    "pyyaml": [("libyaml", "2017-2020 Ingy döt Net\nCopyright (c) 2006-2016 Kirill Simonov")],
    "lbproxy": [("mypyc", "2012-present Jukka Lehtosalo and contributors")],
}
"""What is linked into the modules without a word of it in the metadata, all of it under the MIT licence."""
_BESIDE: Final = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "AUTHORS*")
_MIT: Final = """\
Copyright (c) {holder}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

Bill = dict[str, Any]


def bill(tree: Path, hashes: dict[str, str]) -> Bill:
    """Return the bill: lbproxy, and as its components everything that is shipped with it."""
    found = _distributions(tree)
    parts = {_name(each): _component(each, tree, hashes.get(_name(each))) for each in found}
    references = {name: part["bom-ref"] for name, part in parts.items()}
    itself = parts.pop("lbproxy")
    components = list(parts.values())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([itself, components]))}",
        "version": 1,
        "metadata": {"component": {**itself, "type": "application"}},
        "components": components,
        "dependencies": [
            {"ref": references[_name(each)], "dependsOn": sorted(_needs(each, references))} for each in found
        ],
    }


def licences(tree: Path) -> Iterator[str]:
    """Yield the text of the file `copyright`: each part, its licence in a word, and the texts that it ships."""
    yield "What this package holds, and under which licence.\n"
    for each in _distributions(tree):
        yield f"\n{'=' * 80}\n{_name(each)} {each.version}: {_licence(each)}\n{'=' * 80}\n"
        for file in _texts(_metadata(each)):
            yield f"\n{file.read_text()}"
        for name, holder in _LINKED.get(_name(each), []):
            yield f"\n{'-' * 80}\n{name}, linked into {_name(each)}: MIT\n{'-' * 80}\n\n{_MIT.format(holder=holder)}"
        for part in _bundled(each):
            yield f"linked into {_name(each)}: {part['name']} {part['version']}: {_expression(part)}\n"


def _texts(metadata: Path) -> list[Path]:
    """Return the texts of a licence; metadata of before version 2.4 has them beside itself."""
    found = [*metadata.glob("licenses/**/*"), *(file for name in _BESIDE for file in metadata.glob(name))]
    return sorted(file for file in found if file.is_file())


def _distributions(tree: Path) -> list[Distribution]:
    return sorted(distributions(path=[str(tree)]), key=_name)


def _name(distribution: Distribution) -> str:
    return distribution.name.lower().replace("_", "-")


def _metadata(distribution: Distribution) -> Path:
    """Return the directory of its metadata, which is not told otherwise than by that of a file in it."""
    stem = f"{distribution.name}-{distribution.version}.dist-info".replace("-", "_").lower()
    root = Path(str(distribution.locate_file("")))
    return next(each for each in root.glob("*.dist-info") if each.name.replace("-", "_").lower() == stem)


def _component(distribution: Distribution, tree: Path, sha256: str | None) -> Bill:
    name = _name(distribution)
    purl = f"pkg:pypi/{name}@{distribution.version}"
    parts = [_linked(library, tree) for library, _ in _LINKED.get(name, [])]
    parts += [{key: part[key] for key in part if key != "externalReferences"} for part in _bundled(distribution)]
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": distribution.version,
        "purl": purl,
        "licenses": [{"expression": _licence(distribution)}],
        **({"hashes": [{"alg": "SHA-256", "content": sha256}]} if sha256 else {}),
        **({"components": parts} if parts else {}),
    }


def _linked(library: str, tree: Path) -> Bill:
    version = {"libuv": _libuv, "libyaml": _libyaml}.get(library, lambda _: None)(tree)
    reference = f"pkg:generic/{library}" + (f"@{version}" if version else "")
    return {
        "type": "library",
        "bom-ref": reference,
        "name": library,
        **({"version": version} if version else {}),
        "purl": reference,
        "licenses": [{"expression": "MIT"}],
    }


def _libuv(tree: Path) -> str:
    library = ctypes.CDLL(str(next(tree.glob("uvloop/loop.*.so"))))
    library.uv_version_string.restype = ctypes.c_char_p
    found: bytes = library.uv_version_string()
    return found.decode()


def _libyaml(tree: Path) -> str:
    sys.path.insert(0, str(tree))
    from yaml import _yaml

    return str(_yaml.get_version_string())


def _bundled(distribution: Distribution) -> list[Bill]:
    """Return the components of the bills that a wheel brings itself (PEP 770)."""
    bills = [json.loads(file.read_text()) for file in sorted(_metadata(distribution).glob("sboms/*.json"))]
    return [part for each in bills for part in each["components"]]


def _licence(distribution: Distribution) -> str:
    """Return the licence in a word, an SPDX expression where the project gives none but means one."""
    about = distribution.metadata
    if stated := about.get_all("License-Expression"):
        return str(stated[0])
    classifiers = [each.rpartition(" :: ")[2] for each in about.get_all("Classifier") or () if "License ::" in each]
    words = {"MIT License": "MIT", "Apache Software License": "Apache-2.0"}
    return " AND ".join(sorted(words[each] for each in classifiers))


def _expression(part: Bill) -> str:
    licences = [each.get("expression") or each["license"].get("id", "?") for each in part.get("licenses", [])]
    return " AND ".join(licences) or "not stated"


def _needs(distribution: Distribution, references: dict[str, str]) -> Iterator[str]:
    """Yield the references of what it requires and is shipped; of the extras, that is lbproxy's own `import`."""
    for requirement in distribution.requires or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-")
        wanted = "extra ==" not in requirement or 'extra == "import"' in requirement
        if wanted and name in references:
            yield references[name]


def main(tree: Path, target: Path, report: Path) -> None:
    """Write both files."""
    hashes = {
        item["metadata"]["name"].lower().replace("_", "-"): item["download_info"]["archive_info"]["hashes"]["sha256"]
        for item in json.loads(report.read_text())["install"]
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / "sbom.cdx.json").write_text(json.dumps(bill(tree, hashes), indent=1) + "\n")
    (target / "copyright").write_text("".join(licences(tree)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
