"""Provoke every failure and say how well classification did: `python -m tests.provoked [field ...] [--facts]`."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

from _pytest.outcomes import OutcomeException

from tests.provoked.servers import NotProvoked
from tests.provoked.table import Outcome, all_cases, close_shared, run


def main(arguments: Sequence[str]) -> int:
    """Run the fields that are named, all by default; 1 if any verdict is wrong or any failure could not be provoked."""
    wanted = {argument for argument in arguments if not argument.startswith("--")}
    outcomes: list[Outcome] = []
    skipped: dict[str, int] = defaultdict(int)
    broken: list[str] = []
    field = ""
    try:
        for case in all_cases():
            if wanted and case.field not in wanted:
                continue
            if case.field != field:
                close_shared()
                field = case.field
            try:
                outcomes.append(run(case))
            except OutcomeException as outcome:
                skipped[str(outcome)] += 1
            except NotProvoked as failure:
                broken.append(f"{case.field}:{case.id}: {failure}")
            else:
                if "--facts" in arguments:
                    print(f"{'right' if outcomes[-1].right else 'WRONG'} {outcomes[-1]}")
    finally:
        close_shared()
    _print_table(outcomes)
    for title, of in (
        ("Wrong", lambda outcome: not outcome.right),
        ("Unsafe retries", lambda outcome: outcome.unsafe),
        ("Missed retries", lambda outcome: outcome.missed),
    ):
        chosen = [outcome for outcome in outcomes if of(outcome)]
        print(f"\n{title}: {len(chosen)}")
        for outcome in chosen:
            print(outcome if title == "Wrong" else f"{outcome.case.field}:{outcome.case.id}")
    for text, number in sorted(skipped.items()):
        print(f"\nskipped {number}: {text}")
    for text in broken:
        print(f"\nnot provoked: {text}")
    return int(bool(broken) or not all(outcome.right for outcome in outcomes))


def _print_table(outcomes: Sequence[Outcome]) -> None:
    """One line a field: a situation met through several libraries counts once in `situations`."""
    fields: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        fields[outcome.case.field].append(outcome)
    print(f"{'field':16} {'cases':>6} {'right':>6} {'accuracy':>9} {'situations':>11} {'accuracy':>9} unsafe missed")
    for name, group in [*sorted(fields.items()), ("all", list(outcomes))]:
        if not group:
            continue
        situations: dict[str, list[bool]] = defaultdict(list)
        for outcome in group:
            situations[outcome.case.situation].append(outcome.right)
        shares = [sum(rights) / len(rights) for rights in situations.values()]
        right = sum(outcome.right for outcome in group)
        print(
            f"{name:16} {len(group):6} {right:6} {right / len(group):9.3f} {len(situations):11} "
            f"{sum(shares) / len(shares):9.3f} {sum(o.unsafe for o in group):6} {sum(o.missed for o in group):6}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
