"""Where the application lives: it loads `.env`, and says where data go. All paths are relative to the project's root.

Whatever of `app` reads the environment imports this module first; a value that is in the environment wins over `.env`.
"""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from regrow.errors import SettingsError

try:
    _FILE = {name: value for name, value in dotenv_values(".env").items() if value is not None}
except (OSError, UnicodeDecodeError) as error:
    raise SettingsError(f".env cannot be read: {error}") from None

for _name, _value in _FILE.items():
    # Regrow reads its own settings from the file, and again when it changes: in the environment they would stand fast.
    if not _name.upper().startswith("FAILURE_"):
        os.environ.setdefault(_name, _value)

#: Everything that a run leaves behind, save logs and reports.
VAR = Path(os.environ.get("APP_VAR") or "var/app").absolute()

# The ledger lies there too, unless somebody has put it elsewhere: regrow.toml knows nothing of APP_VAR.
if os.environ.get("APP_VAR") and not (os.environ.get("FAILURE_DATABASE_URL") or _FILE.get("FAILURE_DATABASE_URL")):
    os.environ["FAILURE_DATABASE_URL"] = f"sqlite:///{VAR / 'regrow.db'}"
