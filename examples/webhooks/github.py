"""What GitHub sends, and the news that it becomes here.

A delivery of GitHub has up to 27 KB; the services behind the relay need a few fields of it. So the
relay reads those, and the rest of the system knows only the news below. Fields that nobody here
needs are not named, and do no harm.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, json

# --- our news: flat, typed, and each with the number that GitHub gave the delivery -------------------


class Delivered(Struct):
    """Something happened: what, where, and who did it. Every delivery becomes one of these."""

    delivery: str
    kind: str
    action: str
    place: str
    who: str


class Pushed(Struct):
    """Somebody pushed commits."""

    delivery: str
    place: str
    who: str
    ref: str
    commits: int


class Discussed(Struct):
    """Somebody did something to an issue, a pull request or a discussion."""

    delivery: str
    place: str
    who: str
    action: str
    number: int
    title: str


class Checked(Struct):
    """A build, a check or a deployment has come so far."""

    delivery: str
    place: str
    name: str
    conclusion: str


class Alerted(Struct):
    """A weakness was found, or is gone."""

    delivery: str
    place: str
    action: str
    severity: str
    summary: str


News = Delivered | Pushed | Discussed | Checked | Alerted

# --- GitHub's payloads: the fields that matter here -------------------------------------------------


class Account(Struct):
    login: str


class Repository(Struct):
    full_name: str


class Talk(Struct):
    """An issue, a pull request or a discussion."""

    number: int
    title: str


class Run(Struct):
    """A check run, a check suite, a workflow's run or job, or a deployment's status."""

    name: str = ""
    environment: str = ""
    status: str = ""
    state: str = ""
    conclusion: str | None = None


class Advisory(Struct):
    summary: str
    severity: str


class Rule(Struct):
    description: str
    severity: str = "none"


class Alert(Struct):
    """Of code scanning, of Dependabot, or of the alerts that came before Dependabot's."""

    rule: Rule | None = None
    security_advisory: Advisory | None = None
    affected_package_name: str = ""
    severity: str = "none"


class Payload(Struct):
    """The body of a delivery, whatever its kind."""

    action: str = ""
    sender: Account | None = None
    repository: Repository | None = None
    organization: Account | None = None
    ref: str | None = None
    commits: list[dict[str, object]] = []
    issue: Talk | None = None
    pull_request: Talk | None = None
    discussion: Talk | None = None
    check_run: Run | None = None
    check_suite: Run | None = None
    workflow_run: Run | None = None
    workflow_job: Run | None = None
    deployment_status: Run | None = None
    context: str = ""
    state: str = ""
    alert: Alert | None = None
    security_advisory: Advisory | None = None


def news_of(kind: str, delivery: str, body: bytes) -> Iterator[News]:
    """Yield the news that a delivery brings: always Delivered, and what is known of its kind.

    Args:
        kind: the header X-GitHub-Event.
        delivery: the header X-GitHub-Delivery.
        body: the payload.

    Raises:
        msgspec.ValidationError: a field that matters is not as GitHub documents it.
    """
    payload = json.decode(body, type=Payload)
    place, who = _place(payload), payload.sender.login if payload.sender else "github"
    yield Delivered(delivery, kind, payload.action, place, who)
    if kind == "push":
        yield Pushed(delivery, place, who, payload.ref or "", len(payload.commits))
    elif kind.endswith("_alert") or kind == "security_advisory":
        yield _alerted(delivery, place, payload)
    elif kind == "status":
        yield Checked(delivery, place, payload.context, payload.state)
    elif kind in {"check_run", "check_suite", "workflow_run", "workflow_job", "deployment_status"}:
        run: Run = getattr(payload, kind)
        yield Checked(delivery, place, run.name or run.environment or kind, run.conclusion or run.state or run.status)
    elif kind.startswith(("issue", "pull_request", "discussion")):
        talk = payload.pull_request or payload.issue or payload.discussion
        if talk is not None:
            yield Discussed(delivery, place, who, payload.action, talk.number, talk.title)


def _place(payload: Payload) -> str:
    if payload.repository is not None:
        return payload.repository.full_name
    return payload.organization.login if payload.organization is not None else "github"


def _alerted(delivery: str, place: str, payload: Payload) -> Alerted:
    alert = payload.alert or Alert()
    advisory = payload.security_advisory or alert.security_advisory
    if advisory is not None:
        return Alerted(delivery, place, payload.action, advisory.severity, advisory.summary)
    if alert.rule is not None:
        return Alerted(delivery, place, payload.action, alert.rule.severity, alert.rule.description)
    return Alerted(delivery, place, payload.action, alert.severity, alert.affected_package_name)
