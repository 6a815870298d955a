"""A CEL expression -> what is wrong with its grammar (https://github.com/google/cel-spec)."""

import re

_TOKEN = re.compile(
    r"""\s+|//[^\n]*
    |(?P<literal>
        [bB]?[rR]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')
        |0x[0-9a-fA-F]+u?|[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?
        |[0-9]+[eE][-+]?[0-9]+|[0-9]+u?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_BINARY = {"&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "in"}
_DEEPEST = 100
_END = ("end", "")

Token = tuple[str, str]


class _Fault(Exception):
    """Where the grammar is left."""


def expression_fault(text: str) -> str:
    """What is wrong with an expression, empty when nothing is; names and types are not looked at."""
    try:
        parser = _Parser(_tokens(text))
        parser.expression(0)
        parser.expect("end")
    except _Fault as fault:
        return str(fault)
    return ""


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _Fault(f"character {position + 1}, {text[position]!r}, begins nothing")
        position = match.end()
        if match.lastgroup:
            tokens.append((match.lastgroup, match[match.lastgroup]))
    return [*tokens, _END]


class _Parser:
    """Walks the tokens once; knows only what may follow what."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def expression(self, depth: int) -> None:
        """`a op b op c ? d : e`"""
        if depth > _DEEPEST:
            raise _Fault("it is nested too deeply")
        self._operand(depth)
        while self._word in _BINARY:
            self._at += 1
            self._operand(depth)
        if self._take("?"):
            self.expression(depth + 1)
            self.expect(":")
            self.expression(depth + 1)

    def expect(self, wanted: str) -> None:
        """The next token must be this one."""
        kind, word = self._tokens[self._at]
        if wanted != (kind if kind == "end" else word):
            raise _Fault(f"expected {wanted!r}, found {word or 'its end'!r}")
        self._at += kind != "end"

    @property
    def _word(self) -> str:
        kind, word = self._tokens[self._at]
        return "" if kind == "literal" else word

    def _take(self, word: str) -> bool:
        taken = self._word == word
        self._at += taken
        return taken

    def _operand(self, depth: int) -> None:
        while self._word in {"!", "-"}:
            self._at += 1
        self._primary(depth)
        while True:
            if self._take("."):
                self._name()
                if self._take("("):
                    self._list(")", depth)
            elif self._take("["):
                self.expression(depth + 1)
                self.expect("]")
            elif self._take("{"):
                self._entries(depth)
            else:
                return

    def _primary(self, depth: int) -> None:
        kind, word = self._tokens[self._at]
        if kind == "literal":
            self._at += 1
        elif self._take("("):
            self.expression(depth + 1)
            self.expect(")")
        elif self._take("["):
            self._list("]", depth)
        elif self._take("{"):
            self._entries(depth)
        elif (kind == "name" and word != "in") or self._take("."):
            self._name()
            if self._take("("):
                self._list(")", depth)
        else:
            raise _Fault(f"expected a value, found {word or 'its end'!r}")

    def _name(self) -> None:
        kind, word = self._tokens[self._at]
        if kind != "name" or word == "in":
            raise _Fault(f"expected a name, found {word or 'its end'!r}")
        self._at += 1

    def _list(self, end: str, depth: int) -> None:
        while not self._take(end):
            self.expression(depth + 1)
            if not self._take(","):
                self.expect(end)
                return

    def _entries(self, depth: int) -> None:
        while not self._take("}"):
            self.expression(depth + 1)
            self.expect(":")
            self.expression(depth + 1)
            if not self._take(","):
                self.expect("}")
                return
