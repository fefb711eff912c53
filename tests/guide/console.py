"""A Python prompt in the project's root, for `machine.Console`: a line of JSON in, a line of JSON out.

Run as `python -c` so that the root comes first on the path, as for somebody who types `python` there.
"""

import io
import json
import os
import sys
import traceback

out = os.fdopen(os.dup(1), "w", encoding="utf-8")
names = {"__name__": "prompt"}
for line in sys.stdin:
    said = sys.stdout = io.StringIO()
    names |= {"answer": None, **json.loads(line)}
    answer = {}
    try:
        exec(names["code"], names)
        answer["answer"] = names["answer"]
    except BaseException:
        answer["error"] = traceback.format_exc()
    answer["said"] = said.getvalue()
    print(json.dumps(answer, ensure_ascii=False, default=str), file=out, flush=True)
