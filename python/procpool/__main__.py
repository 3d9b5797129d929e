"""`python -m procpool SCRIPT`: runs an unchanged program with procpool's pools."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
import types
from typing import Any

from . import installation

USAGE = """\
usage: python -m procpool SCRIPT.py [ARGUMENT...]
       python -m procpool -m MODULE [ARGUMENT...]
       python -m procpool -c CODE [ARGUMENT...]

Runs a program whose multiprocessing.Pool and concurrent.futures.ProcessPoolExecutor are procpool's."""


def main(arguments: list[str]) -> None:
    """Runs the program that `arguments` name, as its `__main__`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stderr if not arguments else sys.stdout)
        sys.exit(2 if not arguments else 0)
    installation.install()
    if arguments[0] == "-c" and len(arguments) > 1:
        sys.argv = ["-c", *arguments[2:]]
        _run(arguments[1], "<string>", {})
    elif arguments[0] == "-m" and len(arguments) > 1:
        _run_module(arguments[1], arguments[2:])
    elif arguments[0].startswith("-"):
        print(f"unknown option {arguments[0]}\n{USAGE}", file=sys.stderr)
        sys.exit(2)
    else:
        _run_script(arguments[0], arguments[1:])


def _run_script(path: str, rest: list[str]) -> None:
    if os.path.isdir(path):
        # As the interpreter does it: a folder (or archive) is run by its __main__.
        sys.path.insert(0, path)
        _run_module("__main__", rest, shown=path)
        return
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.exit(f"can't open file {path!r}: {error}")
    sys.argv = [path, *rest]
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    _run(source, path, {"__file__": path, "__cached__": None})


def _run_module(name: str, rest: list[str], shown: str | None = None) -> None:
    sys.argv = [shown or "-m", *rest]
    if name == "__main__":
        sys.modules.pop("__main__", None)
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    if spec is None or spec.loader is None:
        sys.exit(f"No module named {name}")
    code = spec.loader.get_code(spec.name)  # type: ignore[attr-defined]
    sys.argv[0] = shown or spec.origin or name
    names = {"__file__": spec.origin, "__cached__": spec.cached, "__spec__": spec, "__loader__": spec.loader}
    _run(code, spec.origin or name, {**names, "__package__": spec.parent})


def _run(source: Any, path: str, names: dict[str, Any]) -> None:
    # A module of its own, which stays: what the program leaves for its exit is run after this.
    module = types.ModuleType("__main__")
    module.__dict__.update({"__builtins__": builtins, "__package__": None, "__spec__": None, **names})
    code = compile(source, path, "exec", dont_inherit=True) if isinstance(source, (bytes, str)) else source
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        _show_only_the_programs_frames()
        raise


def _show_only_the_programs_frames() -> None:
    show = sys.excepthook

    def show_without_ours(kind: Any, error: BaseException, trace: Any) -> None:
        while trace is not None and trace.tb_frame.f_code is not _run.__code__:
            trace = trace.tb_next
        error.__traceback__ = trace = trace and trace.tb_next
        show(kind, error, trace)

    sys.excepthook = show_without_ours


if __name__ == "__main__":
    main(sys.argv[1:])
