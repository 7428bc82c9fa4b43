"""The places where the product is broken: drawn with a seed from all that the operators of Cosmic Ray find, and from
calls that are left out. The same source gives the same mutants."""

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

PACKAGES = ("rules", "leases", "records", "intake", "batches")
# Operators whose mutants are faults that somebody may make, and hardly ever the same program.
OPERATORS = re.compile(
    r"core/(ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Is_IsNot|IsNot_Is)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul)|ReplaceUnaryOperator_Delete_Not|AddNot"
    r"|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd|ReplaceContinueWithBreak"
    r"|ReplaceBreakWithContinue|NumberReplacer|ZeroIterationForLoop|ExceptionReplacer)"
)
LEFT_OUT = "a call is left out"


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one file; `line` is the first that changes."""

    path: str
    line: int
    operator: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.operator.removeprefix('core/')}"

    def apply(self, source: str) -> str:
        """Make the broken source. Raises ValueError where this place is not in it."""
        if self.operator == LEFT_OUT:
            return _leave_out(source, self.occurrence)
        broken = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        if broken is None:
            raise ValueError(f"{self} is not in this source")
        return str(broken)


def draw_mutants(tree: Path, count: int, seed: int) -> list[Mutant]:
    """Draw so many mutants of the packages, as many of each kind as there are places for it, more or less."""
    patterns = [pattern for package in PACKAGES for pattern in (f"{package}.py", f"{package}/**/*.py")]
    paths = sorted(path for pattern in patterns for path in (tree / "worker").glob(pattern))
    places = sorted(mutant for path in paths for mutant in _find_places(path, str(path.relative_to(tree))))
    # Not two of one line: they tell little more than one.
    by_line = {(mutant.path, mutant.line): mutant for mutant in random.Random(seed).sample(places, len(places))}
    return sorted(random.Random(seed).sample(sorted(by_line.values()), count))


def _find_places(path: Path, name: str) -> Iterator[Mutant]:
    source = path.read_text()
    lines = source.splitlines()
    for occurrence, statement in enumerate(_find_calls(source)):
        yield Mutant(name, statement.lineno, LEFT_OUT, occurrence)
    tree = get_ast(source)
    for operator_name in filter(OPERATORS.fullmatch, operator_names()):
        operator = get_operator(operator_name)()
        positions = (start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        for occurrence, (line, _) in enumerate(positions):
            # A data class that is not frozen any more is no fault that a test is to notice.
            if not lines[line - 1].lstrip().startswith("@"):
                yield Mutant(name, line, operator_name, occurrence)


def _find_calls(source: str) -> list[ast.Expr]:
    """Find the statements that are a call, whose value nobody uses."""
    calls = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    return sorted(calls, key=lambda call: call.lineno)


def _leave_out(source: str, occurrence: int) -> str:
    call = _find_calls(source)[occurrence]
    lines = source.splitlines(keepends=True)
    lines[call.lineno - 1 : call.end_lineno] = [f"{' ' * call.col_offset}pass\n"]
    return "".join(lines)
