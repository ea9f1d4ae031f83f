"""`salus demo` in a process of its own: what a newcomer starts, for clients to be launched from."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

from salus.demo.people import PEOPLE
from tests.clients.forms import Form, forms
from tests.living import Living

PATIENTS = 4
PASSWORDS = {each.account: each.password for each in PEOPLE}


class Demonstration(Living):
    """The demo on folders of its own, until it is stopped."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._browsers: dict[str, Person] = {}

    def browser(self, account: str) -> Person:
        """Somebody's usual browser, in which they stay signed in."""
        return self._browsers.setdefault(account, Person(self, account))

    def stop(self) -> int:
        for person in self._browsers.values():
            person.http.close()
        return super().stop()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Demonstration:
        """Seed, serve, and wait until it is ready."""
        with self.log.open("ab") as log:
            options = ["--patients", str(PATIENTS), "--port", str(self.port)]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "salus", "demo", *options, *self._folders()],
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.base}/health/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready after a minute: {self.log.read_text()}")

    def salus(self, *arguments: str) -> str:
        """A command beside the server, as an operator gives it; what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "salus", *arguments, *self._folders()],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def register(self, id: str, *options: str) -> str:
        """Register a client; its secret when it has one."""
        return self.salus("client", "register", id, *options).rpartition("\n")[2].strip()

    def token(self, scope: str, *options: str) -> str:
        """A token by the operator."""
        return self.salus("token", "--scope", scope, *options)

    def fhir(self, token: str) -> httpx.Client:
        """Whoever holds a token, or none, at the FHIR base."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def _folders(self) -> list[str]:
        return ["--data", str(self.data), "--keys", str(self.keys)]


class Person:
    """Somebody with an account and a browser of their own, without JavaScript."""

    def __init__(self, demo: Demonstration, account: str) -> None:
        self.demo, self.account = demo, account
        self.http = httpx.Client(timeout=60)
        self.pages: list[httpx.Response] = []  # that were shown

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def authorize(
        self,
        url: str,
        patient: str | None = None,
        untick: tuple[str, ...] = (),
        tick: tuple[str, ...] = (),
    ) -> str:
        """Open an authorization request, sign in, choose `patient` if asked, allow what is ticked.
        Where the browser is sent in the end: the app, with its code."""
        home = self.demo.base
        answer = self.http.get(url)
        for _ in range(12):
            if answer.is_redirect:
                following = httpx.URL(str(answer.url)).join(answer.headers["location"])
                if not str(following).startswith(f"{home}/"):
                    return str(following)
                answer = self.http.get(following)
                continue
            self.pages.append(answer)
            assert answer.status_code == 200, answer.text
            answer = self._filled(answer, patient, untick, tick)
        raise AssertionError("no end of pages")

    def launch(self, app: str, patient: str, encounter: str = "") -> dict[str, str]:
        """Click Launch on the page that plays the EHR: what the app is opened with."""
        chosen = {"user": self.account, "patient": patient, "encounter": encounter, "app": app}
        answer = self.http.post(
            f"{self.demo.base}/demo/ehr/launch", data=chosen, headers={"Origin": self.demo.base}
        )
        assert answer.status_code == 303, answer.text
        sent = parse_qs(urlsplit(answer.headers["location"]).query)
        return {name: values[0] for name, values in sent.items()}

    def _filled(
        self,
        page: httpx.Response,
        patient: str | None,
        untick: tuple[str, ...],
        tick: tuple[str, ...],
    ) -> httpx.Response:
        found = forms(page)
        for form in found:
            if "password" in form.names:
                password = PASSWORDS[self.account]
                return self._send(form, {"name": self.account, "password": password})
        for form in found:
            if "patient" in form.names:
                chosen = patient or next(v for n, v in form.offered if n == "patient")
                return self._send(form, {"patient": chosen})
        consent = next(form for form in found if "stamp" in form.names)
        choices = dict.fromkeys(untick) | dict.fromkeys(tick, "on")
        missing = {*untick, *tick} - consent.names
        assert not missing, f"the consent page does not offer {missing}"
        return self._send(consent, choices | {"action": "allow"})

    def _send(self, form: Form, changes: dict[str, str | None]) -> httpx.Response:
        return self.http.request(form.method, form.action, data=_body(form.filled(changes)))


def _body(fields: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Fields as httpx takes them, those of one name together."""
    body: dict[str, list[str]] = {}
    for name, value in fields:
        body.setdefault(name, []).append(value)
    return body
