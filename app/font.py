"""A font with Chinese glyphs, from a package: a receipt and a page look the same on every machine."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

_PACKAGE = "pylopdf-fonts-zh-cn"
_FILE = "NotoSansSC-Regular.otf"


def chinese_font() -> Path:
    """The font's file.

    Raises:
        PackageNotFoundError: The package is not installed.
    """
    file = next(file for file in metadata.files(_PACKAGE) or () if file.name == _FILE)
    return Path(str(file.locate()))
