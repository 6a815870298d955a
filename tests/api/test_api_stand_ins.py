"""Every field of every kind has values to put in its place, and the kind's model takes each of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from isthmus.api.fields import fields
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Model
from isthmus.api.stand_ins import PORT_KEY, stand_ins

Location = tuple[str | int, ...]
_DEEPEST = 9


def places(model: type[Model], at: Location = ()) -> Iterator[Location]:
    """Where something can stand in an object of the model: fields, and the first element of each list."""
    for name, field in fields(model).items():
        here = (*at, name)
        yield here
        if field.container != "one":
            here = (*here, 0 if field.container == "list" else PORT_KEY)
            yield here
        if field.model is not None and len(here) < _DEEPEST:
            yield from places(field.model, here)


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_has_values_that_can_be_read(kind: str) -> None:
    model = KINDS[kind].spec_model
    for place in places(model):
        values = stand_ins(model, place)
        assert values, place
        assert len({repr(value) for value in values}) == len(values), place


@pytest.mark.parametrize("kind", KINDS)
def test_whole_specs_can_be_read(kind: str) -> None:
    model = KINDS[kind].spec_model
    for spec in stand_ins(model, ()):
        model.model_validate(spec, by_alias=True, by_name=False)


def test_words_come_from_the_model() -> None:
    model = KINDS["ServiceEntry"].spec_model
    assert set(stand_ins(model, ("resolution",))) >= {"NONE", "STATIC", "DNS"}
    assert stand_ins(model, ("ports", 0, "number")) == (1, 2, 80)
    assert all(isinstance(value, dict) and value["name"] for value in stand_ins(model, ("ports", 3)))


def test_where_there_is_no_place_there_are_no_values() -> None:
    model: Any = KINDS["ServiceEntry"].spec_model
    assert stand_ins(model, ("portz",)) == ()
    assert stand_ins(model, ("resolution", "x")) == ()
