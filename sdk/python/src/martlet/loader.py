# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Loads the handler file, checks its functions, and turns errors into what their author needs to see."""

import importlib.util
import inspect
import os
import sys
import traceback

from .errors import LoadError

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_FROZEN = "<frozen importlib"


def _is_ours(filename):
    return filename.startswith(_HERE) or filename.startswith(_FROZEN) or filename.endswith("/importlib/__init__.py")


def _strip(summary, seen):
    if summary is None or id(summary) in seen:
        return
    seen.add(id(summary))
    kept = [frame for frame in summary.stack if not _is_ours(frame.filename)]
    summary.stack = traceback.StackSummary.from_list(kept)
    _strip(summary.__cause__, seen)
    _strip(summary.__context__, seen)
    for inner in getattr(summary, "exceptions", None) or ():
        _strip(inner, seen)


def user_traceback(error):
    """Returns the complete traceback text with the runtime's own frames removed."""
    try:
        summary = traceback.TracebackException(type(error), error, error.__traceback__)
        _strip(summary, set())
        return "".join(summary.format())
    except Exception as broken:
        return "%s (its traceback cannot be shown: %s)\n" % (type(error).__name__, type(broken).__name__)


def error_text(error):
    """Returns str(error), also for errors whose __str__ raises."""
    try:
        return str(error)
    except Exception:
        return "<%s that cannot be shown>" % type(error).__name__


class Function:
    """A loaded handler file: its module, `init` or None, `handler`, and what kind of handler it is."""

    def __init__(self, module, init, handler):
        self.module = module
        self.init = init
        self.handler = handler
        self.is_async = is_async(handler)
        self.is_batch = bool(_marked(handler))

    @property
    def kind(self):
        """`sync`, `async` or `batch`."""
        return "batch" if self.is_batch else "async" if self.is_async else "sync"


def is_async(function):
    """Tells whether calling `function` gives a coroutine."""
    while hasattr(function, "func"):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        not inspect.isroutine(function) and inspect.iscoroutinefunction(getattr(function, "__call__", None))
    )


def _marked(function):
    return getattr(function, "__martlet_batching__", False) or getattr(
        getattr(function, "func", None), "__martlet_batching__", False
    )


def load(app_path, handler_file):
    """Imports `handler_file` of `app_path` and returns a Function; LoadError says what, where and what to do."""
    app_path = os.path.abspath(app_path)
    if not os.path.isdir(app_path):
        raise LoadError("import", "NotADirectoryError", "the code folder %s does not exist" % app_path)
    path = os.path.join(app_path, handler_file)
    if not os.path.isfile(path):
        found = sorted(name for name in os.listdir(app_path) if name.endswith(".py"))
        raise LoadError(
            "import",
            "FileNotFoundError",
            "the handler file %s is not in %s; Python files there: %s. Create it, or name the right one with --handlers"
            % (handler_file, app_path, ", ".join(found) or "none"),
        )
    for folder in (os.path.dirname(os.path.abspath(path)), app_path):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    module = _import(path, handler_file)
    handler = getattr(module, "handler", None)
    if handler is None:
        raise LoadError(
            "import", "AttributeError", "%s has no function `handler`; add: def handler(ctx, event):" % handler_file
        )
    _check(handler, "handler", 2, "def handler(ctx, event):", handler_file)
    init = getattr(module, "init", None)
    if init is not None:
        _check(init, "init", 1, "def init(ctx):", handler_file)
    return Function(module, init, handler)


def _import(path, handler_file):
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError("import", "ImportError", "%s is not a Python file; its name must end in .py" % handler_file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        raise LoadError("import", type(error).__name__, _explain(error, handler_file), user_traceback(error)) from None
    return module


def _explain(error, handler_file):
    if isinstance(error, SyntaxError):
        where = os.path.basename(error.filename or handler_file)
        return "%s, line %s: %s" % (where, error.lineno, error.msg)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            "%s; if it comes from a package add that to requirements.txt and build again, "
            "if it is a file of yours put it beside %s"
            % (
                error_text(error),
                handler_file,
            )
        )
    if isinstance(error, SystemExit):
        return "%s called exit(%s) while it was imported; remove that call" % (handler_file, error.code)
    return error_text(error)


def _check(function, name, count, wanted, handler_file):
    if not callable(function):
        raise LoadError(
            "import",
            "TypeError",
            "%s: `%s` is %s, not a function; write: %s" % (handler_file, name, type(function).__name__, wanted),
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*range(count))
    except TypeError as error:
        code = getattr(inspect.unwrap(function), "__code__", None)
        line = ", line %d" % code.co_firstlineno if code else ""
        raise LoadError(
            "import",
            "TypeError",
            "%s%s: %s%s cannot be called with %s (%s); write: %s"
            % (handler_file, line, name, signature, "(ctx, event)" if count == 2 else "(ctx)", error, wanted),
        ) from None


def call_init(function, ctx, run_async):
    """Calls `init(ctx)` when there is one; raises LoadError of phase `init`."""
    if function.init is None:
        return
    try:
        result = function.init(ctx)
        if inspect.iscoroutine(result):
            run_async(result)
    except BaseException as error:
        if isinstance(error, SystemExit):
            message = "init called exit(%s); raise an exception or return instead" % error.code
        else:
            message = error_text(error)
        raise LoadError("init", type(error).__name__, message, user_traceback(error)) from None
