"""Raw facts -> causes: what an exception, or the text that is left of one, says for classification.

Reads attributes and text only: no clock, no network, no files. Nothing here ever raises because of what an
exception does, since the failure it describes would be lost with it.
"""

from __future__ import annotations

from regrow.capture.chain import causes_from_exception
from regrow.capture.clean import display
from regrow.capture.fingerprint import fingerprint
from regrow.capture.redact import Redaction
from regrow.capture.text import causes_from_text

__all__ = ["Redaction", "causes_from_exception", "causes_from_text", "display", "fingerprint"]
