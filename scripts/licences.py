"""Checks, without a network, that every crate in Cargo.lock may be used.

The allow list of licences is the one in deny.toml, and the only source beside this repository is crates.io. cargo-deny
(`make deny`) checks the same and more, security advisories above all, but has to be installed and to fetch them.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def is_allowed(expression, allowed):
    """Whether a licence expression can be satisfied with allowed licences alone.

    >>> is_allowed("MIT OR GPL-3.0-only", {"MIT"})
    True
    >>> is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0", {"MIT"})
    False
    >>> is_allowed("Apache-2.0 WITH LLVM-exception OR MIT/X11", {"MIT"})
    True
    >>> is_allowed("Apache-2.0 WITH LLVM-exception", {"Apache-2.0"})
    False
    """
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def alternatives():
        satisfied = requirements()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            satisfied = requirements() or satisfied
        return satisfied

    def requirements():
        satisfied = licence()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            satisfied = licence() and satisfied
        return satisfied

    def licence():
        name = tokens.pop(0)
        if name == "(":
            satisfied = alternatives()
            tokens.pop(0)
            return satisfied
        if tokens and tokens[0] == "WITH":
            name = " ".join([name, tokens.pop(0), tokens.pop(0)])
        return name in allowed

    return alternatives()


def fault(package, allowed):
    """What is wrong with a package, or None."""
    source = package["source"]
    if source is not None and not (source.startswith("registry+") and source.endswith("/crates.io-index")):
        return f"comes from {source}, which is not crates.io"
    if not package["license"]:
        return "names no licence"
    if not is_allowed(package["license"], allowed):
        return f"is licensed as {package['license']}, which deny.toml does not allow"
    return None


def main():
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    metadata = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    packages = json.loads(metadata.stdout)["packages"]
    faults = [(package, found) for package in packages if (found := fault(package, allowed))]
    for package, found in faults:
        print(f"{package['name']} {package['version']} {found}", file=sys.stderr)
    print(f"{len(packages)} crates, {len(faults)} that may not be used")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
