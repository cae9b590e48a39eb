#!/usr/bin/env python3
"""Prints the packages that a program was built from, as `cargo auditable` wrote them into it: NAME VERSION, a line each.

    tools/embedded_packages.py PROGRAM

The section `.dep-v0` of a 64-bit little-endian ELF file is zlib-compressed JSON
(https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md).
"""

import json
import struct
import sys
import zlib


def section(elf: bytes, wanted: bytes) -> bytes | None:
    if elf[:6] != b"\x7fELF\x02\x01":
        raise SystemExit("no 64-bit little-endian ELF file")
    (start,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, start + size * i) for i in range(count)]
    names_at = headers[names][4]
    for name, _, _, _, offset, length in headers:
        begin = names_at + name
        if elf[begin : elf.index(b"\0", begin)] == wanted:
            return elf[offset : offset + length]
    return None


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        listed = section(file.read(), b".dep-v0")
    if listed is None:
        raise SystemExit(f"{sys.argv[1]}: no list of packages in it; was it built by cargo auditable?")
    for package in json.loads(zlib.decompress(listed))["packages"]:
        if package.get("kind", "runtime") == "runtime":
            print(package["name"], package["version"])


main()
