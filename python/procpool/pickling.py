"""How functions, arguments and results become bytes.

It is pickle's protocol 5, with the reducers that the program registered in `copyreg` and `multiprocessing.reduction`, and
with its buffers out of band. What plain pickle refuses goes by cloudpickle, where that is installed.
"""

from __future__ import annotations

import array
import copyreg
import functools
import io
import pickle
import sys
import types
from multiprocessing import reduction

from . import _procpool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

loads = pickle.loads

PROTOCOL = 5

#: Shorter arrays travel in the pickle itself.
_LONG = 1024

#: Functions whose encoding is kept. They are few in any program; one that makes new ones all the time is harmless.
_KEPT = 256

#: What plain pickle raises for what it cannot take.
REFUSALS = (pickle.PicklingError, AttributeError, TypeError)


# ---- objects ----


def _rebuild_array(typecode: str, data: Any) -> array.array[Any]:
    rebuilt = array.array(typecode)
    rebuilt.frombytes(data)
    return rebuilt


def _reduce_array(value: array.array[Any]) -> Any:
    if len(value) * value.itemsize < _LONG:
        return value.__reduce_ex__(PROTOCOL)
    return _rebuild_array, (value.typecode, pickle.PickleBuffer(value))


def _rebuild_memoryview(data: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    flat = memoryview(data)
    return flat if format == "B" and len(shape) == 1 else flat.cast("B").cast(format, shape)  # type: ignore[call-overload]


def _reduce_memoryview(view: memoryview) -> Any:
    data = view if view.c_contiguous else memoryview(view.tobytes()).cast(view.format, view.shape)  # type: ignore[call-overload]
    return _rebuild_memoryview, (pickle.PickleBuffer(data), view.format, view.shape)


def reducers() -> list[dict[Any, Any]]:
    """The tables of reducers, those of later ones first in force. They are read again whenever they have changed."""
    own: dict[Any, Any] = {memoryview: _reduce_memoryview, array.array: _reduce_array}
    forking: dict[Any, Any] = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return [own, copyreg.dispatch_table, forking]


def make_pickler(sink: Any, table: dict[Any, Any]) -> pickle.Pickler:
    """A pickler that writes to `sink` and reduces by `table`."""
    kind = _PromptPickler if is_prompt() and has_cloudpickle() else pickle.Pickler
    pickler = kind(sink, PROTOCOL, buffer_callback=sink.keep)
    pickler.dispatch_table = table
    return pickler


class _PromptPickler(pickle.Pickler):
    """For what was defined at a prompt, where no worker can import it from."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (type, types.FunctionType)) and value.__module__ == "__main__":
            return loads, (_by_value(value),)
        return NotImplemented


def is_prompt() -> bool:
    """Whether the main module is a prompt or a notebook, of which there is no file."""
    main = sys.modules.get("__main__")
    if getattr(main, "__spec__", None) is None and not hasattr(main, "__file__"):
        return True
    return hasattr(main, "get_ipython") or "ipykernel" in sys.modules


def dumps(value: Any) -> bytes:
    """`value` in one piece, buffers included."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, PROTOCOL)
    pickler.dispatch_table = {key: reduce for table in reducers() for key, reduce in table.items()}
    pickler.dump(value)
    return stream.getvalue()


# ---- functions ----

_encoded: dict[Any, _procpool.Function] = {}


def encode_function(function: Callable[..., Any]) -> _procpool.Function:
    """`function` as bytes; raises what pickle raises where that cannot be."""
    kind = type(function)
    is_plain = kind is types.FunctionType or kind is types.BuiltinFunctionType or kind is type
    if not is_plain:
        return _procpool.Function(_function_bytes(function), name_of(function), False)
    encoded = _encoded.get(function)
    if encoded is None:
        # A method of an object is that object, which may change; a function of a module does not.
        owner = getattr(function, "__self__", None)
        is_constant = owner is None or isinstance(owner, types.ModuleType)
        encoded = _procpool.Function(_function_bytes(function), name_of(function), is_constant)
        if is_constant and not is_by_value(function):
            if len(_encoded) >= _KEPT:
                _encoded.clear()
            _encoded[function] = encoded
    return encoded


def _function_bytes(function: Callable[..., Any]) -> bytes:
    try:
        if is_by_value(function) and has_cloudpickle():
            return _by_value(function)
        try:
            return dumps(function)
        except REFUSALS:
            if not has_cloudpickle():
                raise
            return _by_value(function)
    except REFUSALS as error:
        raise explained(error, function) from None


def name_in(data: bytes) -> Optional[str]:
    """The name in the pickle of a function, of which there may be only a part; None where it has none."""
    import pickletools

    strings: list[str] = []
    names: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STACK_GLOBAL":
                names.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception:
        # Cut off, or rubbish: then what was read before has to do.
        pass
    return next((name for name in names if not name.startswith(_WRAPPERS)), None)


#: What pickles wrap functions in, and which is not the function's own name.
_WRAPPERS = ("functools.", "multiprocessing.", "cloudpickle.", "builtins.getattr", "procpool.")


def is_by_value(function: Callable[..., Any]) -> bool:
    """Whether workers could not find `function` by its name: one of a prompt, or a local one."""
    if getattr(function, "__module__", None) == "__main__" and is_prompt():
        return True
    return "<locals>" in str(getattr(function, "__qualname__", "")) or getattr(function, "__name__", "") == "<lambda>"


def has_cloudpickle() -> bool:
    """Whether it is installed."""
    import importlib.util

    return importlib.util.find_spec("cloudpickle") is not None


def _by_value(value: Any) -> bytes:
    """`value` by cloudpickle."""
    import cloudpickle  # type: ignore[import-untyped, import-not-found]

    data: bytes = cloudpickle.dumps(value, PROTOCOL)
    return data


def explained(error: Exception, value: Any) -> Exception:
    """`error`, which pickle raised for `value`, with what helps: which part of it was refused, and what would take it."""
    part = _refused_part(value)
    text = f"{error} (in {part})" if part else str(error)
    if not has_cloudpickle() and ("<lambda>" in text or "<locals>" in text or "local object" in text):
        text += "; lambdas and local functions can be sent if cloudpickle is installed"
    try:
        changed = type(error)(text)
    except Exception:
        return error
    return changed.with_traceback(error.__traceback__)


def _refused_part(value: Any, depth: int = 8) -> str:
    """The way to the innermost part of `value` that cannot be pickled, as `[1]['lock']`; empty for itself."""
    if isinstance(value, dict):
        parts = [(f"[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, (tuple, list)):
        parts = [(f"[{index}]", part) for index, part in enumerate(value)]
    else:
        parts = [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]
    for name, part in parts if depth else ():
        if not _is_picklable(part):
            return name + _refused_part(part, depth - 1)
    return ""


def _is_picklable(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True


class ByValue:
    """An argument that plain pickle refuses, as cloudpickle's bytes: workers find the value in its place."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return loads, (self.data,)


def by_value(argument: Any, error: Exception) -> ByValue:
    """What can be sent instead of `argument`, for which plain pickle raised `error`. Raises where nothing can."""
    if not has_cloudpickle():
        raise explained(error, argument) from None
    try:
        return ByValue(_by_value(argument))
    except Exception as refused:
        raise explained(refused, argument) from None


def name_of(function: Callable[..., Any]) -> str:
    """The function's name, for people."""
    while isinstance(function, functools.partial):
        function = function.func
    name = str(getattr(function, "__qualname__", None) or type(function).__qualname__)
    module = getattr(function, "__module__", None)
    return name if module in (None, "builtins", "__main__") else f"{module}.{name}"
