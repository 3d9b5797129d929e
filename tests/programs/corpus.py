"""What the programs work on: packages of the interpreter's own standard library, and some files made here."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

HERE = Path(__file__).parent


def copy_packages(folder: Path, packages: tuple[str, ...]) -> None:
    """Copies packages and modules of the standard library, times included."""
    folder.mkdir()
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None, package
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(origin, folder / origin.name)


def write_queries(folder: Path, count: int) -> None:
    """Writes SQL with faults of style to find."""
    folder.mkdir()
    for number in range(count):
        columns = ",\n".join(f"  a.column_{number}_{column} as  c{column}" for column in range(12))
        (folder / f"query_{number}.sql").write_text(
            f"SELECT\n{columns}\nfrom table_{number} a  join other_{number} b ON a.id=b.id\n"
            f"WHERE a.value>{number} and b.name in ('x','y') GROUP by 1,2\n"
        )


def write_secrets(folder: Path, count: int) -> None:
    """Writes settings of which some look like secrets."""
    folder.mkdir()
    for number in range(count):
        password = f"correct-horse-{number * 7919}-battery"
        key = "".join(f"{(number * 31 + place * 17) % 256:02x}" for place in range(20))
        (folder / f"settings_{number}.py").write_text(
            f'host = "example.org"\npassword = "{password}"\napi_key = "{key}"\nport = {number}\n'
        )


def copy_here(folder: Path, name: str) -> None:
    """Copies a folder that lies beside this file."""
    shutil.copytree(HERE / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
