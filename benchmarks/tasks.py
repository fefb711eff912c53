"""The tasks that are measured. The failing ones fail some calls deep, as real ones do, and say why."""

#: A task that succeeds; one that fails for good (bad data); one that time can heal, so that Regrow parks it.
NAMES = ("success", "refused", "healable")


def register(app):
    """Give the tasks to a Celery application; return them by name."""

    def task(function):
        return app.task(name=f"bench.{function.__name__}", shared=False)(function)

    @task
    def success(order, amount):
        return None

    @task
    def refused(order, amount):
        import_order({"order": order, "amount": amount, "lines": [{"sku": "A-100", "count": "4 pieces"}]})

    @task
    def healable(order, amount):
        charge({"order": order, "amount": amount})

    app.finalize()
    return {name: app.tasks[f"bench.{name}"] for name in NAMES}


# -- bad data: nine frames with the task's own -----------------------------------------------------------------------


def import_order(order):
    check_order(order)


def check_order(order):
    for line in order["lines"]:
        check_line(order, line)


def check_line(order, line):
    line["total"] = order["amount"] * counted(line)


def counted(line):
    return read_field(line, "count")


def read_field(line, name):
    return convert(name, line[name], whole)


def convert(name, value, reader):
    try:
        return reader(value)
    except ValueError:
        raise
    finally:
        value = None


def whole(value):
    return parse(value, base=10)


def parse(value, base):
    return int(value, base)


# -- a service that is away: nine frames too -------------------------------------------------------------------------


def charge(payment):
    submit(payment, tries=1)


def submit(payment, tries):
    for _ in range(tries):
        send(payment)


def send(payment):
    post("https://payments.example.com/charge", payment)


def post(url, body):
    return request("POST", url, body)


def request(method, url, body):
    return transport(url.partition("//")[2].partition("/")[0], body)


def transport(host, body):
    return open_connection(host, 443)


def open_connection(host, port):
    return dial((host, port))


def dial(address):
    raise ConnectionRefusedError(111, f"Connection refused: {address[0]} port {address[1]}")
