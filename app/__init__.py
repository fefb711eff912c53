"""The reference application: a thin facade over Regrow, never part of the wheel."""
