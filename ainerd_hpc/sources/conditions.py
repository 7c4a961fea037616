"""Conditions on the columns of a table, parsed here: nothing in one is ever executed, imported or opened.

condition    condition and|or condition, not condition, (condition), comparison, test, a column of true and false
comparison   value == != < <= > >= value (also chained), value in [value, ...], "text" in column, and `not in`
test         column.startswith("text"), column.endswith("text"), column.contains("text")
value        column, `a column`, number, "text", true, false, value + - * / value
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

import pandas as pd

from ainerd_hpc.errors import ConfigError

Value = Any
"""A column (n,), or one number, text or flag."""
_LONGEST = 10_000
_COMPARISONS: Mapping[type, Callable[[Value, Value], Value]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Mapping[type, Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_TESTS = ("startswith", "endswith", "contains")


class _Refused(Exception):
    """Something in a condition is not what may stand there."""

    def __init__(self, node: ast.AST, problem: str) -> None:
        super().__init__(f"at character {getattr(node, 'col_offset', 0) + 1}: {problem}")


def matching(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows of a table for which a condition holds.

    Columns of dates can be compared with ISO dates. What is not known (NaN, no date) equals nothing, and is neither
    above nor below anything.

    Raises
    ------
    ConfigError
        The condition cannot be understood; says where.
    """
    names: dict[str, str] = {}
    try:
        if len(condition) > _LONGEST:
            raise ValueError(f"expected at most {_LONGEST} characters, found {len(condition)}")
        tree = ast.parse(_without_backticks(condition.strip(), names), mode="eval")
        holds = _Evaluation(table, names).condition(tree.body)
    except (_Refused, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = f"at character {error.offset}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f"condition {condition!r}: {reason}; the columns are {', '.join(table.columns)}") from None
    return table.loc[holds]


def _without_backticks(condition: str, names: dict[str, str]) -> str:
    """A condition in which every `name` is a word of the same length; `names` learns which word stands for which."""

    def replace(match: re.Match[str]) -> str:
        word = f"_{len(names)}".ljust(len(match[0]), "_")
        names[word] = match[1]
        return word

    return re.sub(r"`([^`]+)`", replace, condition)


class _Evaluation:
    """What the parts of a condition are, for every row of a table."""

    def __init__(self, table: pd.DataFrame, names: Mapping[str, str]) -> None:
        self._table, self._names = table, names

    def condition(self, node: ast.expr) -> pd.Series:
        """Whether it holds, (n,) bool."""
        if isinstance(node, ast.BoolOp):
            join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            return reduce(join, map(self.condition, node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Call):
            return self._test(node)
        found = self._value(node)
        if _kind(found) != "flag" or not isinstance(found, pd.Series):
            raise _Refused(node, "expected a comparison such as count_time < 0.1, found a value")
        return found

    def _comparison(self, node: ast.Compare) -> pd.Series:
        parts = [node.left, *node.comparators]
        holds = [self._compare(op, one, other) for op, (one, other) in zip(node.ops, pairwise(parts), strict=True)]
        return reduce(operator.and_, holds)

    def _compare(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> pd.Series:
        if isinstance(op, ast.In | ast.NotIn):
            holds = self._is_in(left, right)
            return ~holds if isinstance(op, ast.NotIn) else holds
        if type(op) not in _COMPARISONS:
            raise _Refused(left, "expected == != < <= > >= or in")
        one, other = _alike(right, self._value(left), self._value(right))
        return self._rows(_COMPARISONS[type(op)](one, other))

    def _is_in(self, left: ast.expr, right: ast.expr) -> pd.Series:
        if isinstance(right, ast.List | ast.Tuple):
            equal = [self._compare(ast.Eq(), left, item) for item in right.elts]
            return reduce(operator.or_, equal, self._rows(False))
        text, column = self._value(left), self._value(right)
        if isinstance(text, str) and isinstance(column, pd.Series) and _kind(column) == "text":
            return column.str.contains(text, regex=False, na=False)
        raise _Refused(right, 'expected a list of values, or "text" in a column of texts')

    def _test(self, node: ast.Call) -> pd.Series:
        """`column.contains("text")` and its like; nothing else can be called."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name not in _TESTS or len(node.args) != 1 or node.keywords:
            raise _Refused(node, f'expected a test such as detector.startswith("Eiger") ({", ".join(_TESTS)})')
        assert isinstance(node.func, ast.Attribute)
        column, text = self._value(node.func.value), self._value(node.args[0])
        if not (isinstance(column, pd.Series) and _kind(column) == "text" and isinstance(text, str)):
            raise _Refused(node, f'expected a column of texts and a "text" with {name}')
        found: pd.Series = getattr(column.str, name)(text, na=False, **({"regex": False} if name == "contains" else {}))
        return found

    def _value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
            return node.value
        if isinstance(node, ast.Name):
            return self._named(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._number(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            one, other = self._number(node.left), self._number(node.right)
            try:
                return _ARITHMETIC[type(node.op)](one, other)
            except (ZeroDivisionError, OverflowError) as error:
                raise _Refused(node, str(error)) from None
        raise _Refused(node, 'expected a column, a number or a "text"')

    def _named(self, node: ast.Name) -> Value:
        name = self._names.get(node.id, node.id)
        if name in self._table:
            return self._table[name]
        if name.lower() in ("true", "false"):
            return name.lower() == "true"
        raise _Refused(node, f"no column is called {name!r}")

    def _number(self, node: ast.expr) -> Value:
        value = self._value(node)
        if _kind(value) != "number":
            raise _Refused(node, f"expected a number, found a {_kind(value)}")
        return value

    def _rows(self, value: Value) -> pd.Series:
        """A flag for every row, where it is the same for all."""
        return value if isinstance(value, pd.Series) else pd.Series(bool(value), index=self._table.index)


def _kind(value: Value) -> str:
    dtype = value.dtype if isinstance(value, pd.Series) else pd.Series([value]).dtype
    if pd.api.types.is_bool_dtype(dtype):
        return "flag"
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    return "date" if pd.api.types.is_datetime64_any_dtype(dtype) else "text"


def _alike(node: ast.expr, one: Value, other: Value) -> tuple[Value, Value]:
    """Two values that can be compared; a text beside dates is read as a date."""
    kinds = _kind(one), _kind(other)
    if kinds == ("date", "text"):
        return one, _date(node, other)
    if kinds == ("text", "date"):
        return _date(node, one), other
    if kinds[0] != kinds[1]:
        raise _Refused(node, f"expected a {kinds[0]} to compare with, found a {kinds[1]}")
    return one, other


def _date(node: ast.expr, text: Value) -> pd.Timestamp:
    try:
        found = pd.Timestamp(text)
    except (ValueError, TypeError):
        raise _Refused(node, f"expected a date such as '2024-03-01', found {text!r}") from None
    return found.tz_convert(None) if found.tzinfo else found
