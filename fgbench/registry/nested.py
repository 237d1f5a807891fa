"""Options that name an estimator: the base of a control variate, or of any method around another."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Self

from fgbench.errors import UsageError
from fgbench.registry.factory import Made, make, require_parts
from fgbench.registry.grammar import parts


class Nested(str):
    """The text of an estimator that an option holds, and the estimator that it names.

    ``base: Nested = Nested("dfa")`` is an option of ``fgbench measure 'cv[base=fg_a[directions=4]]'``. It is
    a text everywhere: in names, in records, in JSON. The estimator is made at its first use and kept, so
    all calls of one outer estimator have the same base. The files that define it enter the key of a record.

    A preset stands for its estimator where its locality is ``end``: the locality belongs to the outer
    method.

    Args:
        given: a name with options, ``path.py:Class[options]`` or a preset; or an estimator, from Python.

    Raises:
        UsageError: for anything else. A text is looked up when it is used; one that is typed as an option
            is looked up at once.

    Example:
        >>> base = Nested("fg_a[directions=4]")
        >>> base, base.estimator.directions, base.estimator is base.estimator
        ('fg_a[directions=4]', 4, True)
        >>> Nested("DFA").made.text
        'dfa'
    """

    def __new__(cls, given: Any = "") -> Self:
        """Keep a text; of an estimator, keep the object and show the name of its class."""
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return super().__new__(cls, given)
        if isinstance(given, type):
            raise UsageError(f"expected an estimator, got the class {given.__name__}: add ()")
        # A name has no spaces, so no text makes this object, and its records are served to nobody.
        nested = super().__new__(cls, f"{type(given).__name__} object")
        vars(nested)["made"] = Made(str(nested), {}, given, "", unnamed=True)
        require_parts("estimators", nested.made)
        return nested

    @cached_property
    def made(self) -> Made:
        """The estimator with its name, its options and its source.

        Raises:
            UsageError: for an unknown name or option, something that is no estimator, or a locality
                beside it.
        """
        estimator, locality = parts(self)
        if locality != "end":
            raise UsageError(
                f"{str(self)!r} has the locality {locality!r}, which belongs to the outer method; "
                f"type {estimator!r}"
            )
        made = make("estimators", estimator)
        require_parts("estimators", made)
        return made

    @property
    def estimator(self) -> Any:
        """The estimator: a :class:`fgbench.core.estimator.Estimator`."""
        return self.made.thing

    @classmethod
    def validated(cls, value: Any) -> Self:
        """Return an option's value with its estimator made, under the name that is written into records.

        Args:
            value: as of the class.

        Returns:
            The same with presets replaced and options sorted.

        Example:
            >>> Nested.validated("DFA[scale=2]")
            'dfa[scale=2.0]'
        """
        given = cls(value)
        if given.made.unnamed:
            return given
        canonical = cls(given.made.text)
        vars(canonical)["made"] = given.made
        return canonical

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic, which validates options, call :meth:`validated`."""
        from pydantic import PlainValidator

        return handler.generate_schema(Annotated[Any, PlainValidator(cls.validated)])
