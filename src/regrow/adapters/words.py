"""What people read, in their language: gettext catalogues that lie in the package (`regrow/locale`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from gettext import GNUTranslations
from importlib.resources import files

from regrow.errors import SettingsError
from regrow.ports import Words

#: The language the texts are written in; it needs no catalogue.
SOURCE_LANGUAGE = "en"

_LOCALE = files("regrow") / "locale"


def load_words(language: str) -> Words:
    """The words of a language, `en` or one that has a catalogue.

    Raises:
        SettingsError: There is no such language.
    """
    if language == SOURCE_LANGUAGE:
        return _as_written
    known = languages()
    if language not in known:
        raise SettingsError(f"FAILURE_LANGUAGE={language!r}: there is no such language; known are: {', '.join(known)}")
    with (_LOCALE / language / "LC_MESSAGES" / "regrow.mo").open("rb") as file:
        catalogue = GNUTranslations(file)

    def words(text: str, /) -> str:
        # gettext gives the catalogue's own header for the empty text.
        return text and catalogue.gettext(text)

    return words


def with_names(spoken: Words, names: Callable[[], Mapping[str, str]]) -> Words:
    """The words of a language in which a user's own things have names too.

    Args:
        spoken: The language.
        names: Gives the names as they are now, by key.
    """

    def words(text: str, /) -> str:
        return names().get(text) or spoken(text)

    return words


def languages() -> tuple[str, ...]:
    """Every language there is."""
    translated = (one.name for one in _LOCALE.iterdir() if (one / "LC_MESSAGES" / "regrow.mo").is_file())
    return tuple(sorted({SOURCE_LANGUAGE, *translated}))


def _as_written(text: str, /) -> str:
    return text
