"""A part of a process that is built when it is first asked for, and once, however many threads ask at the same time."""

import threading
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar, cast, overload

T = TypeVar("T")


class Building(Protocol):
    """What has parts. The lock is held while one of them is built, which may build others."""

    building: threading.RLock


class part(cached_property[T]):  # noqa: N801 - a decorator
    """`cached_property` for what threads share. From Python 3.12 on the original takes no lock: two threads of a worker
    that has just started would each build, say, access tokens or a dispatcher of their own."""

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...

    def __get__(self, instance: object, owner: type[Any] | None = None) -> T | Self:
        if instance is None:
            return self
        with cast(Building, instance).building:
            return super().__get__(instance, owner)
