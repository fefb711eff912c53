"""What `import regrow` gives, and what it costs."""

import subprocess
import sys

import regrow


def test_public_names_are_those_of_all():
    """Every name in __all__ is there, and no other name is offered."""
    assert sorted(regrow._HOMES) == regrow.__all__
    for name in regrow.__all__:
        assert getattr(regrow, name).__name__ == name


def test_unknown_name_is_an_attribute_error():
    """A name that is not public is refused as Python does."""
    assert not hasattr(regrow, "nonsense")


def test_import_loads_no_heavy_library():
    """`import regrow` loads neither Celery nor SQLAlchemy nor pydantic."""
    code = "import regrow, sys; print([n for n in ('celery', 'sqlalchemy', 'pydantic') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
