"""Splicing: a counter put into a library's own method, so that counting costs no frame.

A wrapper's frame is most of what counting a hit costs (PERF section 1: 1.24 for wrappers, 1.11 for spliced statements). So a
stock look-up is compiled anew from its own source, with one statement before each of its returns. Line numbers, file
name and globals are the original's, so a traceback reads as if nothing were there. Where the source isn't
to be had (a zipped or frozen library, a C function), or where it is unusual, there is no splice, and a wrapper does.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import warnings
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from cachescope.core.state import ATTRIBUTE

_COLD = "<cachescope: count while something is up>"
_DEFAULT = "<cachescope: default of {}>"


def with_hits_counted(original: Any, cold: Callable[[Any, Any], None]) -> FunctionType | None:
    """The same method, with ``self.<state>.hits += 1`` before each return.

    Args:
        original: A method ``(self, key, …)`` written in Python.
        cold: Called with ``self`` and the key when the state or its slot isn't there.

    Returns:
        The new function; None when *original* can't be spliced.
    """
    try:
        return _spliced(original, cold)
    except (OSError, TypeError, ValueError, SyntaxError, LookupError, AttributeError):
        return None


def _spliced(original: Any, cold: Callable[[Any, Any], None]) -> FunctionType | None:
    code = original.__code__
    if not isinstance(original, FunctionType) or code.co_freevars or hasattr(original, "__wrapped__"):
        return None
    lines, first = inspect.getsourcelines(original)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    indent = len(lines[0]) - len(lines[0].lstrip())
    for node in ast.walk(tree):
        if isinstance(node, (ast.stmt, ast.expr, ast.arg, ast.excepthandler, ast.keyword)):
            node.col_offset += indent
            node.end_col_offset = (node.end_col_offset or 0) + indent
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef) or function.decorator_list or first != code.co_firstlineno:
        return None
    names = [argument.arg for argument in function.args.args]
    if len(names) < 2 or any(isinstance(node, (ast.Lambda, ast.Yield, ast.YieldFrom)) for node in ast.walk(tree)):
        return None
    owner = code.co_qualname.rpartition(".")[0].rpartition(".")[2]
    function = _CountReturns(names[0], names[1]).visit(function)
    constants: dict[str, Any] = {_COLD: cold}
    for name, default in zip(reversed(names), reversed(original.__defaults__ or ()), strict=False):
        # A bound default such as cache_getitem=Cache.__getitem__ becomes a constant: with two parameters and no more,
        # the interpreter enters the method from cache[key] without a C call in between.
        constants[_DEFAULT.format(name)] = default
        function = _Constant(name, _DEFAULT.format(name)).visit(function)
    if len(names) != 2 + len(original.__defaults__ or ()) or function.args.kwonlyargs or function.args.vararg:
        return None
    del function.args.args[2:]
    function.args.defaults = []
    shell = ast.ClassDef(name=owner, bases=[], keywords=[], body=[function], decorator_list=[])  # private names are mangled
    if "type_params" in ast.ClassDef._fields:  # from Python 3.12 on
        setattr(shell, "type_params", [])  # noqa: B010
    module = ast.increment_lineno(ast.fix_missing_locations(ast.Module(body=[shell], type_ignores=[])), first - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # the constant that is called is not the str that it seems
        compiled = compile(module, code.co_filename, "exec", dont_inherit=True)
    made = _code_in(_code_in(compiled, owner), code.co_name)
    if made.co_freevars:
        return None
    consts = tuple(constants.get(const, const) if type(const) is str else const for const in made.co_consts)
    made = made.replace(co_consts=consts, co_qualname=code.co_qualname)
    return FunctionType(made, original.__globals__, original.__name__)


class _CountReturns(ast.NodeTransformer):
    """Puts the counting statement before each return of the method itself."""

    def __init__(self, self_name: str, key_name: str) -> None:
        self.self_name, self.key_name = self_name, key_name
        self.counting = ast.parse(
            f"try:\n    {self_name}.{ATTRIBUTE}.hits += 1\nexcept AttributeError:\n    ({_COLD!r})({self_name}, {key_name})\n"
        ).body[0]

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:  # noqa: N802  # ast's spelling
        value = node.value or ast.Constant(None)
        if isinstance(value, ast.Name):  # already in a variable
            return [self._at(node), node]
        keep = ast.Assign(targets=[ast.Name("_cachescope_value", ast.Store())], value=value)
        give = ast.Return(ast.Name("_cachescope_value", ast.Load()))
        return [ast.copy_location(keep, node), self._at(node), ast.copy_location(give, node)]

    def _at(self, node: ast.AST) -> ast.stmt:
        statement = ast.parse(ast.unparse(self.counting)).body[0]
        for part in ast.walk(statement):
            if hasattr(part, "lineno"):
                ast.copy_location(part, node)
        return statement


class _Constant(ast.NodeTransformer):
    """Puts a constant where a parameter was read; refuses a method that changes the parameter."""

    def __init__(self, name: str, stands_for: str) -> None:
        self.name, self.stands_for = name, stands_for

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802  # ast's spelling
        if node.id != self.name:
            return node
        if not isinstance(node.ctx, ast.Load):
            raise ValueError(f"the method changes its parameter {self.name}")
        return ast.copy_location(ast.Constant(self.stands_for), node)


def _code_in(outer: CodeType, name: str) -> CodeType:
    return next(const for const in outer.co_consts if isinstance(const, CodeType) and const.co_name == name)


__all__ = ["with_hits_counted"]
