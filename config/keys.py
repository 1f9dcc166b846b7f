"""Every setting as a flat table, read off the settings model: the one source for overrides, messages and docs.

Settings.kafka.topics.features  ->  Key kafka.topics.features, variable TRADING_ML__KAFKA__TOPICS__FEATURES
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo

ENV_PREFIX: Final = "TRADING_ML__"
ENV_NESTING: Final = "__"


@dataclass(frozen=True, slots=True)
class Right:
    """Marks an annotated type with the words for what a right value is: "should be {text}"."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting.

    `right` says what a right value is; `default` is None when `required` or when the default is null.
    `items` are the keys of one entry when the setting is a list. `variants` are the values of the
    section's `type` under which the key exists; empty when it always does.
    """

    path: tuple[str, ...]
    right: str
    description: str
    required: bool
    default: object
    optional: bool
    secret: bool
    items: tuple[Key, ...] = ()
    variants: tuple[str, ...] = ()

    @property
    def dotted(self) -> str:
        """The key as files and messages name it: `kafka.topics.features`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return variable_of(self.path)


def variable_of(path: tuple[str, ...]) -> str:
    """The environment variable of a key.

    >>> variable_of(("web", "port"))
    'TRADING_ML__WEB__PORT'
    """
    return ENV_PREFIX + ENV_NESTING.join(path).upper()


def keys_of(model: type[BaseModel]) -> tuple[Key, ...]:
    """Every key of a settings model in declaration order; a section gives its keys, a list gives one key with `items`.

    >>> from config.sections import Web
    >>> [(key.dotted, key.variable, key.right) for key in keys_of(Web)][1]
    ('port', 'TRADING_ML__PORT', 'a whole number, at least 0 and at most 65535')
    """
    return tuple(_walk(model, ()))


def sections_of(keys: Iterable[Key]) -> frozenset[tuple[str, ...]]:
    """The path of every section: each key's proper prefixes, the root `()` included."""
    return frozenset(key.path[:depth] for key in keys for depth in range(len(key.path)))


def _walk(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        path = (*above, name)
        sections = _models_in(field.annotation)
        if get_origin(field.annotation) is tuple and sections:
            yield _key(path, field, items=tuple(_walk(sections[0], ())))
        elif len(sections) == 1:
            yield from _walk(sections[0], path)
        elif sections:
            yield from _union(sections, path)
        else:
            yield _key(path, field)


def _union(sections: tuple[type[BaseModel], ...], path: tuple[str, ...]) -> Iterator[Key]:
    """Keys of a section of several shapes, told apart by their literal `type`."""
    types = tuple(get_args(section.model_fields["type"].annotation)[0] for section in sections)
    yield Key(
        path=(*path, "type"),
        right=_one_of(types),
        description=sections[0].model_fields["type"].description or "",
        required=True,
        default=None,
        optional=False,
        secret=False,
    )
    for section, kind in zip(sections, types, strict=True):
        for name, field in section.model_fields.items():
            if name != "type":
                yield _key((*path, name), field, variants=(kind,))


def _key(path: tuple[str, ...], field: FieldInfo, *, items: tuple[Key, ...] = (), variants: tuple[str, ...] = ()) -> Key:
    return Key(
        path=path,
        right=_right(field.annotation, field.metadata),
        description=field.description or "",
        required=field.is_required(),
        default=None if field.is_required() else field.get_default(call_default_factory=True, validated_data={}),
        optional=NoneType in get_args(field.annotation),
        secret=_holds_secret(field.annotation),
        items=items,
        variants=variants,
    )


def _models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in _models_in(part))


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _right(annotation: Any, metadata: Iterable[object] = ()) -> str:
    """What a right value is, in words, from the type and its bounds."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _right(inner, more)
    if get_origin(annotation) in {Union, UnionType}:
        return " or ".join([*(_right(part, metadata) for part in get_args(annotation) if part is not NoneType), "null"])
    for mark in metadata:
        if isinstance(mark, Right):
            return mark.text
    if get_origin(annotation) is Literal:
        return _one_of(get_args(annotation))
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(annotation, "text") + _bounds(metadata)


def _bounds(metadata: Iterable[object]) -> str:
    words = []
    for mark in metadata:
        match mark:
            case Ge(ge=low):
                words.append(f"at least {low}")
            case Gt(gt=low):
                words.append(f"above {low}")
            case Le(le=high):
                words.append(f"at most {high}")
            case Lt(lt=high):
                words.append(f"below {high}")
            case _:
                continue
    return (", " if words else "") + " and ".join(words)


def _one_of(values: tuple[str, ...]) -> str:
    return "one of " + ", ".join(values)
