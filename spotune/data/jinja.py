"""Jinja as model folders expect it: sandboxed, with the names that chat templates use."""

from __future__ import annotations

import json
from datetime import date
from typing import NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from spotune.data.faults import model_refused

RENDER_ERRORS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a template can raise while it renders, being a program of its author's."""

MARKS = ("\ufdd0", "\ufdd1")
"""Begin and end of a generation block: noncharacters, which no text may hold."""

_FIXED_DAY = date(2025, 1, 1)
"""Templates that print today's date get this one: a run resumed after midnight must see the same tokens."""


def compile_template(source: str, *, marked: bool) -> Template:
    """A chat template, ready to render. `marked` puts MARKS around what `{% generation %}` blocks write.

    Raises:
        RequestRefused: the template is not valid Jinja (`broken_chat_template`).
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Marked if marked else _Unmarked, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _FIXED_DAY.strftime
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        message = f"The model's chat template is not valid Jinja: {error.message}, at line {error.lineno}."
        raise model_refused("broken_chat_template", message) from error


class _Unmarked(Extension):
    """`{% generation %} ... {% endgeneration %}`: the part of a template that writes what the model is to learn."""

    tags = {"generation"}
    marks = ("", "")

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("enclose"), [], [], body).set_lineno(line)

    def enclose(self, caller: Macro) -> str:
        begin, end = self.marks
        return f"{begin}{caller()}{end}"


class _Marked(_Unmarked):
    marks = MARKS


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
