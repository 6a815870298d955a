"""`isthmus explain`: the documentation of a kind or a field, with no server."""

import inspect
import textwrap
from typing import TYPE_CHECKING, Any, get_args

import click

if TYPE_CHECKING:
    from isthmus.api.fields import Field
    from isthmus.api.kinds import Kind
    from isthmus.api.meta import Model


@click.command()
@click.argument("path", metavar="KIND[.FIELD…]")
@click.option("--recursive", is_flag=True, help="All fields below, names and types alone.")
def explain(path: str, recursive: bool) -> None:
    """Tell what a kind or a field is for: vs, vs.spec.http.retries."""
    from isthmus.cli.targets import kind_of

    word, *steps = path.split(".")
    kind = kind_of(word)
    found = None
    if steps[:1] == ["metadata"]:
        from isthmus.api.codec import Metadata

        found = _walk(Metadata, steps[1:], "metadata")
    elif kind.has_spec and steps[:1] == ["spec"]:
        found = _walk(kind.spec_model, steps[1:], "spec")
    elif not kind.has_spec and steps:
        found = _walk(kind.spec_model, steps, "")
    elif steps:
        raise click.ClickException(f"{kind.kind} has no field {steps[0]}: it has metadata, spec and status")
    click.echo(f"KIND:    {kind.kind}\nVERSION: {kind.api_versions[0]}")
    if kind.later:
        click.echo(f"NOTE:    {kind.later}")
    if found is not None:
        _tell(found, recursive=recursive)
    else:
        _tell_kind(kind, recursive=recursive)


def _walk(model: "type[Model]", steps: list[str], at: str) -> tuple[str, str, "type[Model] | None"]:
    """Type, text and (of an object) the model of a field."""
    from isthmus.api.fields import fields, nearest

    kind, text, current = "Object", _doc(model), model
    found: type[Model] | None = current
    for step in steps:
        if found is None:
            raise click.ClickException(f"{at} has no fields")
        known = fields(found)
        if step not in known:
            hint = nearest(step, known) or f"it has {', '.join(known)}"
            raise click.ClickException(f"{at or 'the object'} has no field {step}: {hint}")
        kind, text = _type(found, step, known[step]), _text(found, step)
        found, at = known[step].model, f"{at}.{step}".lstrip(".")
        if found is not None and _doc(found) not in text:
            text = f"{text}\n{_doc(found)}"
    return kind, text, found


def _tell(found: tuple[str, str, "type[Model] | None"], *, recursive: bool) -> None:
    kind, text, model = found
    click.echo(f"TYPE:    <{kind}>\n\n{textwrap.indent(text, '  ')}")
    if model is not None:
        click.echo("\nFIELDS")
        _tell_fields(model, recursive=recursive, depth=1, inside=())


def _tell_kind(kind: "Kind", *, recursive: bool) -> None:
    click.echo(f"\n{textwrap.indent(_doc(kind.spec_model), '  ')}\n\nFIELDS")
    click.echo("  metadata <Object>" + ("" if recursive else "\n      Name, labels, annotations, owners."))
    if kind.has_spec:
        click.echo("  spec <Object>")
        if not recursive:
            click.echo(textwrap.indent(_doc(kind.spec_model), "      "))
    _tell_fields(kind.spec_model, recursive=recursive, depth=2 if kind.has_spec else 1, inside=())


def _tell_fields(
    model: "type[Model]", *, recursive: bool, depth: int, inside: "tuple[type[Model], ...]"
) -> None:
    from isthmus.api.fields import fields

    for name, field in fields(model).items():
        required = " (required)" if _info(model, name).is_required() else ""
        click.echo(f"{'  ' * depth}{name} <{_type(model, name, field)}>{required}")
        if not recursive:
            click.echo(textwrap.indent(textwrap.fill(_text(model, name), 90), "  " * depth + "    "))
        elif field.model is not None and field.model not in (*inside, model):
            _tell_fields(field.model, recursive=True, depth=depth + 1, inside=(*inside, model))


def _type(model: "type[Model]", name: str, field: "Field") -> str:
    one = "Object" if field.model else _word(_info(model, name).annotation)
    return {"one": one, "list": f"[]{one}", "map": f"map[string]{one}"}[field.container]


def _word(annotation: Any) -> str:
    plain = {str: "string", int: "integer", float: "number", bool: "boolean"}
    if annotation in plain:
        return plain[annotation]
    words = [_word(part) for part in get_args(annotation) if isinstance(part, type) or get_args(part)]
    if not words and get_args(annotation):
        return "string"  # one of several words
    return next((word for word in words if word != "Object"), "Object")


def _info(model: "type[Model]", name: str) -> Any:
    infos = model.model_fields.items()
    return next(info for attribute, info in infos if (info.alias or attribute) == name)


def _text(model: "type[Model]", name: str) -> str:
    return str(_info(model, name).description or "")


def _doc(model: "type[Model]") -> str:
    return inspect.cleandoc(model.__doc__ or "")
