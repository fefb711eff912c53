"""Input that is not what it should be: text formats, archives, pictures, PDFs, tables, encodings."""

from __future__ import annotations

import base64
import configparser
import csv
import datetime as dt
import decimal
import gzip
import io
import ipaddress
import json
import lzma
import pickle
import struct
import tarfile
import tomllib
import uuid
import xml.dom.minidom
import xml.etree.ElementTree as ET
import zipfile
import zlib
import zoneinfo
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import defusedxml.ElementTree
import pydantic
import pypdfium2
import yaml
from PIL import Image

from regrow.model import BUSINESS, CONFIG, DATA
from tests.provoked.table import Case, Field, check
from tests.services import require_library

formats = Field("format")


def _zip(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def _png() -> bytes:
    made = io.BytesIO()
    Image.frombytes("RGB", (64, 64), bytes(range(256)) * 48).save(made, "PNG")
    return made.getvalue()


def _pdf() -> bytes:
    from fpdf import FPDF

    document = FPDF()
    document.add_page()
    return bytes(document.output())


def _open_zip(content: bytes, name: str = "a") -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.read(name)


def _wrong_crc() -> None:
    content = bytearray(_zip(a=b"hello hello"))
    content[content.index(b"hello")] ^= 1
    _open_zip(bytes(content))


def _picture(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()


def _bomb() -> None:
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = 10
    try:
        _picture(_png())
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _expat(text: str) -> None:
    ET.fromstring(text)


CASES: list[tuple[str, Callable[[], object]]] = [
    ("json-empty", lambda: json.loads("")),
    ("json-cut", lambda: json.loads('{"order": [1, 2')),
    ("json-quotes", lambda: json.loads("{'order': 1}")),
    ("json-extra", lambda: json.loads("{} {}")),
    ("json-control-character", lambda: json.loads('"a\nb"')),
    ("json-of-bytes", lambda: json.loads(b"\xff\xfe\xfd")),
    ("json-of-none", lambda: json.loads(None)),  # type: ignore[arg-type]
    ("json-cannot-hold", lambda: json.dumps({"when": dt.date(2026, 1, 1)})),
    ("json-circular", lambda: json.dumps(_circular())),
    ("json-pydantic", lambda: pydantic.TypeAdapter(dict[str, int]).validate_json("{oops")),
    ("xml-unclosed", lambda: _expat("<order><id>1</order>")),
    ("xml-empty", lambda: _expat("")),
    ("xml-entity", lambda: _expat("<a>&nbsp;</a>")),
    ("xml-minidom", lambda: xml.dom.minidom.parseString("<a")),
    ("xml-forbidden-entities", lambda: defusedxml.ElementTree.fromstring('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')),
    ("xml-lxml", lambda: require_library("lxml.etree").fromstring("<order><id>1</order>")),
    ("xml-lxml-empty", lambda: require_library("lxml.etree").fromstring(b"")),
    ("xml-schema", lambda: _schema()),
    ("csv-nul-or-field", lambda: list(csv.reader(["a" * 200_000]))),
    ("csv-strict", lambda: list(csv.reader(['"a"b'], strict=True))),
    ("csv-too-many-fields", lambda: csv.DictWriter(io.StringIO(), ["a"]).writerow({"a": 1, "b": 2})),
    ("yaml", lambda: yaml.safe_load("a: [1, 2")),
    ("yaml-tab", lambda: yaml.safe_load("a:\n\tb: 1")),
    ("yaml-tag", lambda: yaml.safe_load("!!python/object:os.system {}")),
    ("toml", lambda: tomllib.loads("a = = 1")),
    ("picture-of-text", lambda: _picture(b"this is no picture")),
    ("picture-cut", lambda: _picture(_png()[:60])),
    ("picture-bomb", _bomb),
    ("picture-mode", lambda: Image.new("RGBA", (1, 1)).save(io.BytesIO(), "JPEG")),
    ("picture-kind", lambda: Image.new("RGB", (1, 1)).save("/tmp/regrow-provoked.odd")),
    ("pdf-of-text", lambda: pypdfium2.PdfDocument(b"this is no PDF")),
    ("pdf-page", lambda: pypdfium2.PdfDocument(_pdf())[5]),
    ("pdf-empty-pypdf", lambda: require_library("pypdf").PdfReader(io.BytesIO(b""))),
    (
        "pdf-of-text-pypdf",
        lambda: require_library("pypdf").PdfReader(io.BytesIO(b"this is no PDF at all" * 50), strict=True),
    ),
    ("pdf-page-pypdf", lambda: require_library("pypdf").PdfReader(io.BytesIO(_pdf())).pages[5]),
    ("zip-of-text", lambda: _open_zip(b"this is no archive")),
    ("zip-crc", _wrong_crc),
    ("zip-missing-member", lambda: _open_zip(_zip(a=b"x"), "b")),
    ("gzip-of-text", lambda: gzip.decompress(b"this is no archive")),
    ("gzip-cut", lambda: gzip.decompress(gzip.compress(b"x" * 1000)[:-9])),
    ("gzip-crc", lambda: gzip.decompress(gzip.compress(b"x" * 1000)[:-8] + bytes(8))),
    ("zlib", lambda: zlib.decompress(b"this is not compressed")),
    ("lzma", lambda: lzma.decompress(b"this is not compressed")),
    ("tar", lambda: tarfile.open(fileobj=io.BytesIO(b"this is no archive" * 100))),
    ("tar-cut", lambda: tarfile.open(fileobj=io.BytesIO(b""))),
    ("utf-8", lambda: b"caf\xe9".decode()),
    ("ascii", lambda: "café".encode("ascii")),
    ("gbk", lambda: b"\xff\xff".decode("gbk")),
    ("surrogate", lambda: "\ud800".encode()),
    ("base64", lambda: base64.b64decode("abc")),
    ("base64-characters", lambda: base64.b64decode("a!b=", validate=True)),
    ("hexadecimal", lambda: bytes.fromhex("xyz")),
    ("uuid", lambda: uuid.UUID("order-1")),
    ("date", lambda: dt.datetime.strptime("31/02/2026", "%d/%m/%Y")),
    ("date-format", lambda: dt.datetime.strptime("2026-01-01", "%d/%m/%Y")),
    ("date-iso", lambda: dt.date.fromisoformat("yesterday")),
    ("date-range", lambda: dt.date(2026, 13, 1)),
    ("date-overflow", lambda: dt.datetime.max + dt.timedelta(days=1)),
    ("date-aware", lambda: dt.datetime(2026, 1, 1) < dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    ("decimal", lambda: decimal.Decimal("12,50")),
    ("integer", lambda: int("12.5")),
    ("float", lambda: float("n/a")),
    ("integer-too-long", lambda: int("1" * 5000)),
    ("fraction", lambda: Fraction("1/0")),
    ("address", lambda: ipaddress.ip_address("300.1.1.1")),
    ("struct", lambda: struct.unpack("<II", b"abc")),
    ("pickle", lambda: pickle.loads(b"no pickle")),
    ("pickle-cut", lambda: pickle.loads(pickle.dumps([1, 2, 3])[:-3])),
    ("pickle-empty", lambda: pickle.loads(b"")),
    ("workbook-of-text", lambda: require_library("openpyxl").load_workbook(io.BytesIO(b"this is no workbook"))),
    ("workbook-of-odd-kind", lambda: require_library("openpyxl").load_workbook("orders.xls")),
    ("workbook-without-parts", lambda: require_library("openpyxl").load_workbook(io.BytesIO(_zip(a=b"x")))),
    ("workbook-sheet", lambda: require_library("openpyxl").Workbook()["Orders"]),
    ("table-empty", lambda: require_library("pandas").read_csv(io.StringIO(""))),
    ("table-fields", lambda: require_library("pandas").read_csv(io.StringIO("a,b\n1,2\n1,2,3,4\n"))),
    ("table-column", lambda: _frame()["price"]),
    ("table-columns", lambda: _frame()[["price", "weight"]]),
    ("table-use-columns", lambda: require_library("pandas").read_csv(io.StringIO("a\n1"), usecols=["price"])),
    ("table-number", lambda: _frame()["name"].astype(int)),
    ("table-to-number", lambda: require_library("pandas").to_numeric(_frame()["name"])),
    ("table-date", lambda: require_library("pandas").to_datetime("no date")),
    ("table-merge", lambda: _frame().merge(_frame(), on="price")),
    ("table-length", lambda: require_library("pandas").DataFrame({"a": [1], "b": [1, 2]})),
    ("table-unicode", lambda: require_library("pandas").read_csv(io.BytesIO(b"a\ncaf\xe9\n"))),
    ("array-shapes", lambda: require_library("numpy").ones((2, 3)) @ require_library("numpy").ones((2, 3))),
    ("array-broadcast", lambda: require_library("numpy").ones(3) + require_library("numpy").ones(4)),
    ("array-singular", lambda: require_library("numpy").linalg.inv(require_library("numpy").zeros((2, 2)))),
    ("array-index", lambda: require_library("numpy").ones(3)[7]),
    ("array-of-text", lambda: require_library("numpy").array(["a"]).astype(float)),
]
for _id, _provoke in CASES:
    formats.add(_id, DATA, _provoke)

formats.add("unknown-encoding", (DATA, CONFIG), lambda: b"x".decode("no-such-code"))
formats.add("time-zone", (DATA, CONFIG), lambda: zoneinfo.ZoneInfo("Mars/Olympus"))
formats.add("settings-file", (DATA, CONFIG), lambda: configparser.ConfigParser().read_string("no section"))
formats.add("settings-section", (CONFIG,), lambda: configparser.ConfigParser()["database"])
formats.add("settings-option", (CONFIG,), lambda: _settings().get("database", "host"))


def _settings() -> configparser.ConfigParser:
    made = configparser.ConfigParser()
    made.read_string("[database]\nport = 5432")
    return made


def _circular() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def _frame() -> Any:
    return require_library("pandas").DataFrame({"name": ["Ada", "Bob"], "age": [36, 4]})


def _schema() -> None:
    etree = require_library("lxml.etree")
    schema = etree.XMLSchema(
        etree.XML(
            '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a" type="xs:int"/></xs:schema>'
        )
    )
    schema.assertValid(etree.XML("<a>twelve</a>"))


@formats.case("pdf-with-a-password", DATA, BUSINESS)
def _pdf_password() -> None:
    pypdf = require_library("pypdf")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="AES-256")
    made = io.BytesIO()
    writer.write(made)
    pypdf.PdfReader(io.BytesIO(made.getvalue())).pages[0].extract_text()


@formats.case("pdf-with-a-password-pdfium", DATA, BUSINESS)
def _pdfium_password() -> None:
    pypdf = require_library("pypdf")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="AES-256")
    made = io.BytesIO()
    writer.write(made)
    pypdfium2.PdfDocument(made.getvalue())


@formats.each()
def test_formats(case: Case) -> None:
    """The same input fails again."""
    check(case)
