#!/usr/bin/env python3
"""Writes the crates of Cargo.lock down for the Yocto recipe.

    tools/yocto_crates.py            write yocto/meta-familiar/recipes-familiar/familiar/familiar-crates.inc
    tools/yocto_crates.py --check    end with 1 if that file is not what it would write

Every crate has its version and the SHA-256 of its archive from Cargo.lock, so that bitbake fetches exactly the locked bytes. Which
registry they lie in the recipe reads from Cargo.lock itself (familiar.bb).
"""

import difflib
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
INCLUDE = TOP / "yocto/meta-familiar/recipes-familiar/familiar/familiar-crates.inc"

HEAD = """\
# The crates of Cargo.lock, with the SHA-256 of their archives. Written by tools/yocto_crates.py: do not edit.
# nooelint: oelint.vars.mispell.unknown - our own, read by the recipe
FAMILIAR_CRATES = " \\
"""


def include(lock: str) -> str:
    """The text of the include file. Raises ValueError for a crate that is in no registry, or of an unknown sum."""
    crates = []
    for package in tomllib.loads(lock)["package"]:
        source = package.get("source")
        if source is None:
            continue  # familiar itself
        name, version = package["name"], package["version"]
        if not source.startswith("registry+"):
            raise ValueError(f"{name} {version} comes from {source}: the recipe only fetches from a registry")
        checksum = package.get("checksum")
        if checksum is None:
            raise ValueError(f"{name} {version} has no checksum in Cargo.lock")
        crates.append((name, version, checksum))
    lines = [HEAD]
    lines += [f"    {name}/{version} \\\n" for name, version, _ in crates]
    lines.append('"\n\n')
    lines += [f'SRC_URI[{name}-{version}.sha256sum] = "{checksum}"\n' for name, version, checksum in crates]
    return "".join(lines)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted = include((TOP / "Cargo.lock").read_text())
    if not arguments:
        INCLUDE.write_text(wanted)
        return 0
    found = INCLUDE.read_text() if INCLUDE.exists() else ""
    if found == wanted:
        return 0
    name = str(INCLUDE.relative_to(TOP))
    changes = difflib.unified_diff(found.splitlines(), wanted.splitlines(), name, "Cargo.lock", lineterm="", n=0)
    print("\n".join(list(changes)[:20]), file=sys.stderr)
    print(f"{name} does not match Cargo.lock: run tools/yocto_crates.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
