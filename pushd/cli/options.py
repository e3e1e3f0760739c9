"""Groups of options: a parameter of a command whose type is one of them stands for all of its fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints


class Options:
    """A group: a frozen dataclass whose fields are annotated as options of typer are, each with its default."""

    __slots__ = ()


Command = TypeVar("Command", bound=Callable[..., Any])


def grouped(command: Command) -> Command:
    """The command with the options of every group among its parameters in the place of those."""
    signature = inspect.signature(command, eval_str=True)
    groups = {each.name: each.annotation for each in signature.parameters.values() if _is_group(each.annotation)}
    own = [each for each in signature.parameters.values() if each.name not in groups]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    for group in reversed(groups.values()):  # the daemon, which every command names first, is what helps least
        hints = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(
                each.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name], default=each.default
            )
            for each in fields(group)
        ]

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        made = {
            name: group(**{each.name: given.pop(each.name) for each in fields(group)}) for name, group in groups.items()
        }
        return command(**made, **given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run  # type: ignore[return-value]  # to callers that are typer it is the same command


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)
