"""Validators and Django: fields, objects, settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pydantic
from pydantic_settings import BaseSettings

from regrow.model import BUSINESS, CONFIG, DATA, TEMPORARY
from tests.provoked import servers
from tests.provoked.table import Case, Field, check, shared
from tests.services import require_library

validation = Field("validation")
django = Field("django")


class _Order(pydantic.BaseModel):
    id: int
    email: str = pydantic.Field(pattern=r".+@.+")
    weight: float = pydantic.Field(gt=0)
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class _Settings(BaseSettings):
    payment_api_key: str
    model_config = {"env_prefix": "REGROW_PROVOKED_"}


validation.add("missing-fields/pydantic", DATA, lambda: _Order.model_validate({}))
validation.add("wrong-type/pydantic", DATA, lambda: _Order.model_validate({"id": "x", "email": "a@b", "weight": 1}))
validation.add("out-of-range/pydantic", DATA, lambda: _Order(id=1, email="a@b", weight=-1))
validation.add("pattern/pydantic", DATA, lambda: _Order(id=1, email="nobody", weight=1))
validation.add("unknown-field/pydantic", DATA, lambda: _Order.model_validate({"id": 1, "odd": 2}))
validation.add("frozen/pydantic", DATA, lambda: setattr(_Order(id=1, email="a@b", weight=1), "id", 2))
validation.add("missing-setting/pydantic-settings", (CONFIG, DATA), lambda: _Settings())  # type: ignore[call-arg]


def _json_schema(document: object, schema: object) -> None:
    require_library("jsonschema").validate(document, schema)


validation.add("required/jsonschema", DATA, lambda: _json_schema({}, {"type": "object", "required": ["id"]}))
validation.add("type/jsonschema", DATA, lambda: _json_schema("x", {"type": "integer"}))
validation.add("enumeration/jsonschema", DATA, lambda: _json_schema("xl", {"enum": ["s", "m"]}))
validation.add("additional/jsonschema", DATA, lambda: _json_schema({"a": 1}, {"additionalProperties": False}))
validation.add("broken-schema/jsonschema", (DATA, CONFIG), lambda: _json_schema({}, {"type": "no-such-type"}))


@validation.each()
def test_validation(case: Case) -> None:
    """What a validator refuses is data."""
    check(case)


# -- Django ------------------------------------------------------------------------------------------------------------


@shared
@contextmanager
def models() -> Iterator[Any]:
    """A Django project with one model in a database in memory."""
    settings = require_library("django.conf").settings
    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            USE_TZ=True,
            ALLOWED_HOSTS=["shop.example"],
            TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
            DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        )
        require_library("django").setup()
    from django.db import connection

    made = _Models
    if "customer" not in made:
        made["customer"] = _customer()
    with connection.schema_editor() as editor:
        editor.create_model(made["customer"])
    made["customer"].objects.create(name="Ada")
    try:
        yield made["customer"]
    finally:
        connection.close()


_Models: dict[str, Any] = {}


def _customer() -> Any:
    from django.db import models

    class Customer(models.Model):
        name = models.CharField(max_length=5, unique=True)
        age = models.IntegerField(null=True)

        class Meta:
            app_label = "provoked"

        def __str__(self) -> str:
            return str(self.name)

    return Customer


def _with(act: Callable[[Any], object]) -> Callable[[], object]:
    return lambda: act(models())


def _form(data: dict[str, object]) -> None:
    from django import forms

    class Form(forms.Form):
        email = forms.EmailField()

    form = Form(data)
    if not form.is_valid():
        raise forms.ValidationError(form.errors.as_json())


def _field(name: str, value: object) -> None:
    from django import forms

    getattr(forms, name)().clean(value)


def _save(customer: Any, **values: object) -> None:
    customer(**values).save()


def _template(text: str) -> None:
    from django.template import Context, Template

    Template(text).render(Context())


def _request(host: str) -> None:
    from django.test import RequestFactory

    RequestFactory().get("/", headers={"host": host}).get_host()


def _missing_table(customer: Any) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM auth_user")


def _other_database(settings: dict[str, object]) -> Callable[[Any], None]:
    def act(customer: Any) -> None:
        from django.db import connections

        name = f"other{len(connections.databases)}"
        usual = {"USER": "root", "NAME": "test", "ENGINE": "django.db.backends.postgresql", "PASSWORD": ""}
        connections.databases[name] = {**connections.databases["default"], **usual, **settings}
        try:
            connections[name].cursor()
        finally:
            connections[name].close()
            del connections.databases[name]

    return act


def _setting(name: str) -> None:
    from django.conf import settings

    getattr(settings, name)


def _get_or_404(customer: Any) -> None:
    from django.shortcuts import get_object_or_404

    get_object_or_404(customer, pk=99)


def _import(path: str) -> None:
    from django.utils.module_loading import import_string

    import_string(path)


def _signature() -> None:
    from django.core import signing

    signing.loads("forged:signature", key="x")


def _atomic(customer: Any) -> None:
    from django.db import IntegrityError, transaction

    with transaction.atomic():
        try:
            customer.objects.create(name="Ada")
        except IntegrityError:
            customer.objects.count()


for _id, _labels, _act in (
    ("no-object", (BUSINESS,), lambda customer: customer.objects.get(pk=99)),
    ("not-found-page", (BUSINESS,), _get_or_404),
    ("more-than-one-object", (DATA,), lambda c: (c.objects.create(name="Bob"), c.objects.get(pk__gt=0))),
    ("unique", (DATA,), lambda customer: customer.objects.create(name="Ada")),
    ("unique-at-validation", (DATA, BUSINESS), lambda customer: customer(name="Ada").full_clean()),
    ("too-long-at-validation", (DATA,), lambda customer: customer(name="Bartholomew").full_clean()),
    ("not-null", (DATA,), lambda customer: _save(customer, name=None)),
    ("no-integer", (DATA,), lambda customer: _save(customer, name="x", age="twelve")),
    ("missing-field", (DATA, CONFIG), lambda customer: customer.objects.filter(price=1)),
    ("missing-attribute", (DATA,), lambda customer: customer(price=1)),
    ("missing-table", (CONFIG,), _missing_table),
    ("query-in-a-broken-transaction", (TEMPORARY, DATA), _atomic),
    ("form-field", (DATA,), lambda customer: _field("EmailField", "nobody")),
    ("form-required", (DATA,), lambda customer: _field("CharField", "")),
    ("form-number", (DATA,), lambda customer: _field("IntegerField", "twelve")),
    ("form", (DATA,), lambda customer: _form({"email": "nobody"})),
    ("missing-setting", (CONFIG,), lambda customer: _setting("PAYMENT_API_KEY")),
    ("empty-secret-key", (CONFIG,), lambda customer: _setting("SECRET_KEY")),
    ("unknown-database-alias", (CONFIG,), lambda customer: customer.objects.using("gone").count()),
    ("template-missing", (CONFIG,), lambda c: require_library("django.template.loader").get_template("gone.html")),
    ("template-syntax", (DATA, CONFIG), lambda customer: _template("{% if %}")),
    ("template-library", (CONFIG, DATA), lambda customer: _template("{% load gone %}")),
    ("host-not-allowed", (CONFIG,), lambda customer: _request("evil.example")),
    ("missing-class", (CONFIG,), lambda customer: _import("no_such_package.Backend")),
    ("forged-signature", (DATA, CONFIG), lambda customer: _signature()),
    ("refused", (TEMPORARY,), lambda c: _other_database({"HOST": "127.0.0.1", "PORT": servers.closed_port()})(c)),
    ("dns", (TEMPORARY,), _other_database({"HOST": "regrow.invalid", "PORT": 5432})),
    ("cannot-open", (CONFIG, TEMPORARY), _other_database({"ENGINE": "django.db.backends.no_such"})),
):
    django.add(_id, _labels, _with(_act))


@django.case("permission-denied", BUSINESS, CONFIG)
def _permission() -> None:
    raise require_library("django.core.exceptions").PermissionDenied("You may not see this order")


@django.case("suspicious-file-name", DATA)
def _suspicious() -> None:
    require_library("django.core.files.utils").validate_file_name("../../etc/passwd")


@django.case("settings-not-configured", CONFIG)
def _not_configured() -> None:
    lazy = require_library("django.conf").LazySettings()
    before = os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    try:
        lazy.DEBUG
    finally:
        if before is not None:
            os.environ["DJANGO_SETTINGS_MODULE"] = before


@django.each()
def test_django(case: Case) -> None:
    """Django's exceptions, and the drivers' behind them."""
    check(case)
