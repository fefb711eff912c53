"""Feeds hostile texts to capture, redaction, classification and fingerprint: nothing may raise, nothing may take long.

What counts as long grows with the length of the text: a text of many thousand characters, which the fuzzer makes of a
few bytes, finds the expression that takes quadratic time. Needs atheris (PyPI), which is in no lock of ours; see
tools/README.md.
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

#: Most processor time for one failure, in seconds, and for each character of it. Generous: what is instrumented takes
#: several times longer; and small enough that a quadratic expression is over it at LONGEST.
BASE_SECONDS = 0.15
CHARACTER_SECONDS = 15e-6
#: Longest text that is made, in characters; capture cuts a traceback at 64,000.
LONGEST = 70_000

# Separates type, message and traceback in a seed.
_BETWEEN = "\x1e"
_SHAPES = 7
# Seeds that are no examples.
_MADE = 400
# What parsers and expressions of ours look at; a text repeats some of them.
_PIECES = (
    *(
        "a",
        "1",
        " ",
        "\n",
        "\r\n",
        "\t",
        "\x00",
        "\ud800",
        "\x0c",
        "\x85",
        "\u2028",
        "\u3000",
        "错",
        "伺服器",
        "連線逾時",
    ),
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<",
        ">",
        "'",
        '"',
        "`",
        "“",
        "「",
        "\\",
        "\\'",
        '\\"',
        "\\n",
        "\\r\\n",
        "/",
        "\\a",
    ),
    *(
        ".",
        "a.",
        "A.B",
        ":",
        "::",
        "$",
        "-",
        "--",
        "_",
        "a_b_c_",
        "AaAaAa",
        "=",
        "=>",
        ",",
        ";",
        "&",
        "@",
        "a@b.",
        "#",
        "%s",
    ),
    *(
        "://",
        "a://b:c@",
        "https://a:b@c/",
        "1.",
        "1:",
        "f:",
        "0x1",
        "4111111111111111 ",
        "4111 1111 1111 1111",
        "1m",
        "5 s ",
    ),
    *(
        "password=",
        "password: ",
        "token='",
        'api_key": "',
        "密码：",
        "Bearer ",
        "Basic ",
        "Authorization: Digest ",
        "eyJ",
        "sk-",
    ),
    *(
        "cookie: a=b;",
        "Key (password)=(",
        "--secret ",
        "session=",
        "AKIA",
        "ghp_",
        "-----BEGIN PRIVATE KEY-----",
        "-----END",
    ),
    *(
        "ValueError: ",
        "KeyError",
        "a.b.C: x\n",
        '  File "a.py", line 1, in f\n',
        '  File "x/site-packages/redis/a.py"\n',
        "    x\n",
    ),
    *(
        "Traceback (most recent call last):\n",
        "Caused by: a.B: c\n",
        "  | ",
        "[SQL: ",
        "【网络】",
        "[DATA] ",
        "Error",
        "$B",
    ),
    "\nThe above exception was the direct cause of the following exception:\n",
    "\nDuring handling of the above exception, another exception occurred:\n",
    *(
        '{"error_type": "',
        '"error_message": "',
        "错误信息",
        '{"a":',
        "[[",
        '{"error_message":1',
        "}}",
        "NaN",
        "1e999",
        "9" * 400,
    ),
    *(
        "retry after ",
        "try again in 1m30s",
        "connection refused ",
        "timeout ",
        "quota ",
        "limit ",
        "exceeded ",
        "per minute ",
    ),
    *(
        "invalid ",
        "not ",
        "token ",
        "user or ",
        "ORA-00060 ",
        "HTTP 503 ",
        "errno -2 ",
        "SQLSTATE 08006",
        "status code ",
        "用完 ",
    ),
)
_ANY = ("", *_PIECES)


class TookTooLong(AssertionError):
    """A failure took more processor time than its length allows."""


def main() -> None:
    """Fuzz until a finding, or as long as libFuzzer's options say."""
    try:
        import atheris
    except ImportError:
        sys.exit("fuzz.py needs atheris: `pip install atheris` in an environment of its own (tools/README.md)")
    with atheris.instrument_imports(include=["regrow"]):
        run = _target()

    def one_input(data: bytes) -> None:
        judge(run, *texts_from(atheris.FuzzedDataProvider(data)))

    with tempfile.TemporaryDirectory(prefix="regrow-fuzz-") as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"{number:05}").write_bytes(seed)
        options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
        corpus = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        # libFuzzer writes what it finds into the first folder.
        folders = corpus if any(Path(one).is_file() for one in corpus) else [*corpus, folder]
        atheris.Setup([sys.argv[0], "-max_len=2048", "-len_control=0", "-timeout=60", *options, *folders], one_input)
        atheris.Fuzz()


def judge(run: Callable[[str, str, str], None], kind: str, message: str, trace: str) -> None:
    """Run one failure.

    Args:
        run: What is examined.
        kind: The exception's type.
        message: Its text.
        trace: Its traceback.

    Raises:
        TookTooLong: The time is above the bound.
    """
    length = len(kind) + len(message) + len(trace)
    allowed = BASE_SECONDS + CHARACTER_SECONDS * length
    start = process_time()
    run(kind, message, trace)
    took = process_time() - start
    if took > allowed:
        said = ", ".join(
            f"{name} {text[:60]!r} ({len(text)})" for name, text in zip("kmt", (kind, message, trace), strict=True)
        )
        raise TookTooLong(f"{took:.2f} s for {length} characters, {allowed:.2f} s are allowed: {said}")


def texts_from(provider: Any) -> tuple[str, str, str]:
    """Type, message and traceback from the fuzzer's bytes.

    Args:
        provider: Atheris' FuzzedDataProvider.
    """
    shape = provider.ConsumeIntInRange(0, _SHAPES)
    if shape == 0:  # as a seed is written
        whole = provider.ConsumeBytes(provider.remaining_bytes()).decode("utf-8", "surrogateescape")
        kind, _, rest = whole.partition(_BETWEEN)
        message, _, trace = rest.partition(_BETWEEN)
        return kind, message, trace
    if shape == 1:  # one text that is full of one piece
        place = provider.ConsumeIntInRange(0, 2)
        piece, second, before, after = (_ANY[provider.ConsumeIntInRange(0, len(_ANY) - 1)] for _ in range(4))
        piece = piece + second or " "
        texts = ["", "", ""]
        texts[place] = before + piece * (LONGEST // len(piece)) + after
        return texts[0], texts[1], texts[2]
    texts = [_text(provider) for _ in range(3)]
    if shape == 2:  # noqa: PLR2004  # numbers of shapes
        texts[1] = '{"error_type": "' + texts[0] + '", "error_message": ' + texts[1] + "}"
    elif shape == 3:  # noqa: PLR2004
        texts[2] = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n' + texts[2]
    elif shape == 4:  # noqa: PLR2004
        texts[0] = ""
    return texts[0], texts[1], texts[2]


def _text(provider: Any) -> str:
    parts: list[str] = []
    length = 0
    for _ in range(provider.ConsumeIntInRange(0, 6)):
        if provider.ConsumeBool():
            part = provider.PickValueInList(list(_PIECES))
        else:
            part = provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 40))
        if provider.ConsumeBool():
            part += provider.PickValueInList(list(_PIECES))
        times = provider.PickValueInList([1, 1, 1, 3, 60, 1_000, LONGEST])
        part = (part * min(times, LONGEST // (len(part) or 1) + 1))[: LONGEST - length]
        parts.append(part)
        length += len(part)
    return "".join(parts)


def seeds() -> list[bytes]:
    """The examples of the packaged rules, as `texts_from` reads them; and bytes that make texts of every shape."""
    found = []
    for item in (files("regrow") / "rules").iterdir():
        if item.name.endswith(".toml"):
            for section in tomllib.loads(item.read_text("utf-8")).values():
                for table in section if isinstance(section, list) else ():
                    found += [example for example in table.get("examples", ()) if isinstance(example, str)]
    ends = ("", f'{_BETWEEN}Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: no\n')
    examples = [f"{_BETWEEN}{one}{ends[at % 2]}".encode() + b"\0" for at, one in enumerate(sorted(set(found)))]
    # What is taken first stands last.
    full = [bytes((piece, place, 1)) for place in range(3) for piece in range(1, len(_ANY))]
    luck = Random(0)
    full += [bytes((*(luck.randrange(len(_ANY)) for _ in range(4)), luck.randrange(1, 3), 1)) for _ in range(_MADE)]
    return [*examples, *full, *(luck.randbytes(luck.randint(8, 300)) for _ in range(_MADE))]


def _target() -> Callable[[str, str, str], None]:
    """What a failure goes through from capture to its record."""
    from regrow.adapters.rules import load_rulebook
    from regrow.capture import Redaction, causes_from_exception, causes_from_text, display, fingerprint
    from regrow.classify import classify

    rulebook = load_rulebook()
    redactions = (Redaction(), Redaction(keys=("国籍", "pin"), emails=True))

    def run(kind: str, message: str, trace: str) -> None:
        causes = causes_from_text(kind, message, trace)
        for chain in (causes, causes_from_exception(ValueError(message))):
            classify(chain, rulebook)
            fingerprint(chain, trace)
            [display(cause) for cause in chain]
        for redaction in redactions:
            fingerprint(redaction.causes(causes), redaction.text(trace))
            redaction.json(message)

    return run


if __name__ == "__main__":
    main()
