"""Reads a FHIRPath expression into its syntax tree, by precedence climbing.

http://hl7.org/fhirpath/N1/#operator-precedence
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from conformance.fhirpath.lexer import Token, tokens
from conformance.fhirpath.syntax import (
    Call,
    Empty,
    FhirPathError,
    Index,
    Indexer,
    Literal,
    Member,
    Node,
    Operation,
    Sign,
    This,
    Total,
    TypeOperation,
    Variable,
    parts,
)
from conformance.fhirpath.values import Quantity, temporal, words

MAX_NESTING = 100  # parentheses, arguments, indexes and signs inside one another
MAX_DEPTH = 200  # steps and operations that lean on one another, as in a.b.c or a or b or c

_LEVELS = {
    operator: level
    for level, operators in enumerate(
        (
            "implies",
            "or xor",
            "and",
            "in contains",
            "= ~ != !~",
            "< > <= >=",
            "|",
            "is as",
            "+ - &",
            "* / div mod",
        ),
        start=1,
    )
    for operator in operators.split()
}
_SIGN_LEVEL = 11
# Operators that may be names as well.
_NAMES = frozenset({"as", "contains", "in", "is"})
_WORDS = frozenset(operator for operator in _LEVELS if operator.isalpha())
_CALENDAR = dict(words())
_TEMPORAL = {"date": "System.Date", "datetime": "System.DateTime", "time": "System.Time"}
_SPECIAL: dict[str, Node] = {"$this": This(), "$index": Index(), "$total": Total()}


@lru_cache(maxsize=4096)
def parse(expression: str) -> Node:
    """The syntax tree. FhirPathError says what is wrong and where."""
    found = tokens(expression)
    parser = _Parser(found)
    tree = parser.expression(1)
    if parser.token.kind != "end":
        raise _unexpected(parser.token)
    if len(found) > MAX_DEPTH and _depth(tree) > MAX_DEPTH:
        raise FhirPathError(f"At most {MAX_DEPTH} steps or operations on one another")
    return tree


def _unexpected(token: Token) -> FhirPathError:
    what = "end of the expression" if token.kind == "end" else _shown(token)
    return FhirPathError(f"Unexpected {what}", token.offset)


def _shown(token: Token) -> str:
    return token.text if token.kind == "end" else f"`{token.text}`"


def _depth(tree: Node) -> int:
    """How deep the tree is; without recursion, which is what the limit guards."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in parts(node))
    return deepest


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._nesting = 0
        self.token = tokens[0]

    def expression(self, level: int) -> Node:
        """An expression of operators that bind at least as tightly as `level`."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise FhirPathError(f"At most {MAX_NESTING} levels of nesting", self.token.offset)
        left = self._signed() if self._sign() else self._postfix(self._term())
        while (found := self._operator()) and _LEVELS[found] >= level:
            self._advance()
            left = self._operation(found, left)
        self._nesting -= 1
        return left

    def _operation(self, operator: str, left: Node) -> Node:
        if operator in ("is", "as"):
            return TypeOperation(operator, left, self._type())
        return Operation(operator, left, self.expression(_LEVELS[operator] + 1))

    def _signed(self) -> Node:
        operator = self._advance().text
        return Sign(operator, self.expression(_SIGN_LEVEL))

    def _sign(self) -> bool:
        return self.token.kind == "symbol" and self.token.text in ("+", "-")

    def _postfix(self, target: Node) -> Node:
        while self.token.kind == "symbol" and self.token.text in (".", "["):
            if self._advance().text == "[":
                target = Indexer(target, self.expression(1))
                self._expect("]")
            else:
                target = self._invocation(target)
        return target

    def _invocation(self, target: Node, first: bool = False) -> Node:
        token = self._advance()
        if token.text in _SPECIAL and token.kind == "symbol":
            return _SPECIAL[token.text]
        if token.kind not in ("name", "quoted"):
            raise FhirPathError(f"A name was expected, not {_shown(token)}", token.offset)
        if self.token.text != "(" or self.token.kind != "symbol":
            return Member(target, token.text, first)
        self._advance()
        return Call(target, token.text, self._arguments())

    def _arguments(self) -> tuple[Node, ...]:
        found: list[Node] = []
        if not self._skip(")"):
            found.append(self.expression(1))
            while self._skip(","):
                found.append(self.expression(1))
            self._expect(")")
        return tuple(found)

    def _term(self) -> Node:
        token = self.token
        if token.kind in ("name", "quoted"):
            return self._named(token)
        if token.kind == "symbol":
            return self._bracketed(token)
        self._advance()
        if token.kind == "string":
            return Literal("System.String", token.text)
        if token.kind == "number":
            return self._number(token)
        if token.kind in _TEMPORAL:
            return _moment(token)
        raise _unexpected(token)

    def _named(self, token: Token) -> Node:
        if token.kind == "name":
            if token.text in ("true", "false"):
                self._advance()
                return Literal("System.Boolean", token.text == "true")
            if token.text in _WORDS and token.text not in _NAMES:
                raise _unexpected(token)
        return self._invocation(This(), first=True)

    def _bracketed(self, token: Token) -> Node:
        if token.text in _SPECIAL:
            return self._invocation(This())
        self._advance()
        match token.text:
            case "(":
                inner = self.expression(1)
                self._expect(")")
                return inner
            case "{":
                self._expect("}")
                return Empty()
            case "%":
                name = self._advance()
                if name.kind not in ("name", "quoted", "string"):
                    raise FhirPathError("A variable needs a name after %", name.offset)
                return Variable(name.text)
        raise _unexpected(token)

    def _number(self, token: Token) -> Node:
        value = Decimal(token.text) if "." in token.text else int(token.text)
        if self.token.kind == "string":
            return Literal("System.Quantity", Quantity(value, self._advance().text))
        if self.token.kind == "name" and self.token.text in _CALENDAR:
            unit = _CALENDAR[self._advance().text]
            return Literal("System.Quantity", Quantity(value, unit, calendar=True))
        return Literal("System.Decimal" if "." in token.text else "System.Integer", value)

    def _type(self) -> str:
        name = self._advance()
        if name.kind not in ("name", "quoted"):
            raise FhirPathError(f"A type was expected, not {_shown(name)}", name.offset)
        if name.text not in ("System", "FHIR") or not self._skip("."):
            return name.text
        return f"{name.text}.{self._advance().text}"

    def _operator(self) -> str | None:
        """The operator that this token is, if it is one."""
        token = self.token
        if token.kind not in ("symbol", "name") or token.text not in _LEVELS:
            return None
        return token.text

    def _advance(self) -> Token:
        token = self.token
        if token.kind != "end":
            self._at += 1
            self.token = self._tokens[self._at]
        return token

    def _skip(self, symbol: str) -> bool:
        if self.token.kind != "symbol" or self.token.text != symbol:
            return False
        self._advance()
        return True

    def _expect(self, symbol: str) -> None:
        if not self._skip(symbol):
            raise FhirPathError(
                f"`{symbol}` was expected, not {_shown(self.token)}", self.token.offset
            )


def _moment(token: Token) -> Node:
    type = _TEMPORAL[token.kind]
    value = temporal(type, token.text.removeprefix("@").removeprefix("T"))
    if value is None:
        raise FhirPathError(f"`{token.text}` is no date or time", token.offset)
    return Literal(type, value)
