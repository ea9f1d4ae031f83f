"""What the operator decides: one frozen object, read once from options and environment.

Every field has a variable SALUS_<NAME>; an option of the command line wins over it. The words are
those of https://hl7.org/fhir/R4/http.html where the standard has them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from fhir_server.erasure.rules import read_rules
from fhir_server.limits import Limits
from salus.bulksettings import BulkSettings
from salus.forwarded import Network
from salus.keysettings import KeySettings
from salus.logsettings import Listed, LogSettings
from salus.problem import Problem
from salus.validationsettings import ValidationSettings

PREFIX = "SALUS_"
# Variables that are no settings: where tests and `salus bench` find data, what makes a test fail
# that cannot find it, and the access token of `salus load`. A server started beside them has them
# around it.
FOREIGN = frozenset({"SALUS_TEST_DATA", "SALUS_CI", "SALUS_TOKEN"})

# Settings that a command has an option for.
OPTIONS = frozenset(
    {
        "host",
        "port",
        "data",
        "keys",
        "base_url",
        "open",
        "tls_cert",
        "tls_key",
        "behind_proxy",
        "trusted_proxy",
        "keys_on_this_machine",
    }
)

# What is wrong with a value, by the type of the error; filled with its context.
_WRONG = {
    "int_parsing": "must be a whole number, not {input}",
    "int_from_float": "must be a whole number, not {input}",
    "float_parsing": "must be a number, not {input}",
    "bool_parsing": "must be true or false, not {input}",
    "literal_error": "must be {expected}, not {input}",
    "greater_than_equal": "must be {ge} or more, not {input}",
    "less_than_equal": "must be {le} or less, not {input}",
}

# What each limit bounds, for `salus settings`; a test holds that none is missing.
LIMITS = {
    "body": "bytes of a FHIR request body, unpacked",
    "binary": "bytes of a raw Binary body",
    "chunk": "bytes from which on a Binary is stored and streamed in pieces",
    "depth": "nesting of objects and arrays in JSON",
    "entries": "entries of a batch or transaction",
    "issues": "issues in one OperationOutcome",
    "url": "bytes of a query string, and of a search form",
    "parameters": "search parameters of one request",
    "values": "comma-separated values of one search parameter",
    "value_set": "codes of a value set, or near a code, that a search compares",
    "chain": "hops of a chain or of _has",
    "page": "the largest _count",
    "default_page": "_count where the request has none",
    "included": "resources that _include and _revinclude add to a page",
    "page_bytes": "bytes of the resources of one page, which ends earlier beyond them",
    "bundle_bytes": "bytes of the answers to the entries of one batch or transaction",
    "bundle_seconds": "seconds within which a batch or transaction must be performed",
    "request_seconds": "seconds after which a request is given up",
    "body_seconds": "seconds that a body may stall, or be behind its slowest speed",
    "iterations": "rounds of :iterate",
    "conditional": "resources that one conditional delete may remove",
    "search_seconds": "seconds after which a search is interrupted",
    "writing_seconds": "seconds that all searches of one write may take, while other writes wait",
    "patch_operations": "operations of one patch",
    "link_seconds": "seconds after which a paging link expires",
    "audit_entities": "versions named by one AuditEvent, then a further one",
}


class SettingsError(Problem):
    """A setting is wrong; the text names it, in the operator's spelling, and says what to do."""


def user_folder(variable: str, fallback: str) -> Path:
    """A base folder of the user (XDG): the one the variable names, or `fallback` below home."""
    named = os.environ.get(variable, "")
    return Path(named) if named.startswith("/") else Path.home() / fallback


def default_data(name: str = "salus") -> Path:
    """Where data is kept unless told: in the user's data folder."""
    return user_folder("XDG_DATA_HOME", ".local/share") / name


def default_keys(name: str = "salus") -> Path:
    """Where keys are kept unless told: in the user's state folder, never beside the data."""
    return user_folder("XDG_STATE_HOME", ".local/state") / name / "keys"


class Settings(LogSettings, KeySettings, BulkSettings, ValidationSettings):
    """All that can be set. Frozen; nothing imports it as a global."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        nested_model_default_partial_update=True,
        frozen=True,
        extra="forbid",
    )

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8080, ge=1, le=65535, description="port to listen on")
    data: Path = Field(default_factory=default_data, description="folder of the data (encrypted)")
    keys: Path = Field(
        default_factory=default_keys,
        description="folder of the keys; never inside the data folder, back it up apart from it",
    )
    base_url: str = Field(
        default="",
        description="address by which clients reach this server, used in all links; "
        "http://HOST:PORT unless set; the FHIR base is this plus /fhir",
        validate_default=False,
    )
    open: bool = Field(
        default=False, description="serve without authorization: only on a loopback address"
    )
    tls_cert: Path | None = Field(
        default=None,
        description="certificate chain (PEM) to serve https with; read again on change",
    )
    tls_key: Path | None = Field(default=None, description="private key (PEM) of the certificate")
    behind_proxy: bool = Field(
        default=False,
        description="a proxy before this server speaks https, so it may listen beyond loopback "
        "without a certificate of its own",
    )
    trusted_proxy: Listed = Field(
        default=(),
        description="addresses or networks of proxies whose X-Forwarded-For, X-Forwarded-Proto and "
        "Forwarded headers count, separated by commas",
    )
    organisation: str = Field(
        default="Salus", description="name shown where people sign in", min_length=1, max_length=100
    )
    tenant: str = Field(
        default="", description="launch parameter `tenant` of every token response, if any"
    )
    registration: Literal["off", "token", "open"] = Field(
        default="off",
        description="whether apps may register themselves: not at all, with a token that the "
        "operator hands out, or anybody",
    )
    access_minutes: int = Field(
        default=60, ge=1, le=1440, description="how long an access token of an app lives"
    )
    refresh_days: int = Field(
        default=180, ge=1, le=3650, description="how long a refresh token lives that nobody uses"
    )
    session_minutes: int = Field(
        default=30, ge=1, le=1440, description="after which an idle browser is signed out"
    )
    session_hours: int = Field(
        default=12, ge=1, le=720, description="after which a browser is signed out in any case"
    )
    jwks_hosts: Listed = Field(
        default=(),
        description="hosts on private addresses whose key sets may be fetched, as HOST or "
        "HOST:PORT, separated by commas",
    )
    timezone: str = Field(
        default="UTC",
        description="time zone of the pages, and of times without an offset in data and searches",
    )
    cipher: Literal["aegis256", "aes256"] | None = Field(
        default=None,
        description="cipher of the database's pages, chosen when a data folder is made: aegis256 "
        "(the default), or aes256 (AES-256-CBC with HMAC-SHA-512) for sites that must name AES for "
        "the file; the bodies in it are under AES-256-GCM either way",
    )
    audit_reads: Literal["durable", "buffered"] = Field(
        default="durable",
        description="durable: a read is answered once its AuditEvent is on disk. buffered: at "
        "once, and the event follows within moments; a crash or a full disk in between loses the "
        "trace of reads that were answered",
    )
    break_glass_log: Path | None = Field(
        default=None,
        description="file, sealed and append-only, that takes the audit of reads while the store "
        "cannot (disk full), so that they are answered rather than refused; merged into the audit, "
        "each event marked, as soon as possible. Outside the data folder, best on another disk",
    )
    references: Literal["accept", "check"] = Field(
        default="accept",
        description="a literal reference to this server that resolves to nothing: accepted and "
        "counted, or refused with 422",
    )
    rate_client: int = Field(
        default=120_000,
        ge=0,
        description="what one app may ask of the FHIR API in SALUS_RATE_SECONDS, in units of a "
        "plain read (docs/limits.md); 0 for no limit",
    )
    rate_user: int = Field(
        default=30_000,
        ge=0,
        description="what one user may ask, by whatever apps, in as many seconds; 0 for no limit",
    )
    rate_address: int = Field(
        default=6_000,
        ge=0,
        description="what one address (of IPv6: 64 bits) may ask in as many seconds where nobody "
        "is known yet: pages, tokens, requests without a valid token; 0 for no limit",
    )
    rate_seconds: int = Field(
        default=60, ge=1, le=3600, description="seconds that the rates are counted in"
    )
    rate_exempt: Listed = Field(
        default=(),
        description="ids of apps that no rate holds, separated by commas",
    )
    retention: Listed = Field(
        default=(),
        description="how long resources are kept, by type and by the age of their newest version, "
        "separated by commas: Observation=10y,Communication=730d; those not named stay",
    )
    audit_years: int = Field(
        default=6, ge=1, le=100, description="how many years audit events are kept"
    )
    limits: Limits = Field(default=Limits(), description="what a request may cost")

    @property
    def fhir_base(self) -> str:
        """The FHIR base URL, without a slash at its end."""
        return f"{self.base_url}/fhir"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def proxies(self) -> tuple[Network, ...]:
        """Whose forwarded headers count."""
        return tuple(ip_network(each, strict=False) for each in self.trusted_proxy)

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """Certificate and key; None when this process speaks http."""
        return (self.tls_cert, self.tls_key) if self.tls_cert and self.tls_key else None

    @field_validator("break_glass_log")
    @classmethod
    def _outside(cls, file: Path | None) -> Path | None:
        return None if file is None else file.expanduser().resolve()

    @field_validator("data", "keys")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().resolve()

    @field_validator("tls_cert", "tls_key")
    @classmethod
    def _found(cls, file: Path | None) -> Path | None:
        if file is None:
            return None
        file = file.expanduser().resolve()
        if not file.is_file():
            raise ValueError(f"names no file: {file}")
        return file

    @field_validator("retention")
    @classmethod
    def _rules(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if given:
            from conformance.definitions import load  # commands that need none start without

            read_rules(given, load().types)
        return given

    @field_validator("trusted_proxy")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for each in given:
            try:
                ip_network(each, strict=False)
            except ValueError:
                raise ValueError(
                    f"takes addresses and networks such as 10.0.0.5 or 10.0.0.0/8, not {each}"
                ) from None
        return given

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("is not a time zone; write it like Europe/Vienna or UTC") from None
        return name

    @field_validator("limits")
    @classmethod
    def _positive(cls, limits: Limits) -> Limits:
        for name, value in asdict(limits).items():
            if value <= 0:
                raise ValueError(f"{variable('limits', name)} must be above 0")
        return limits

    @model_validator(mode="before")
    @classmethod
    def _base_url_of_address(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("base_url"):
            host = bracketed(str(given.get("host", "127.0.0.1")))
            scheme = "https" if given.get("tls_cert") else "http"
            return {**given, "base_url": f"{scheme}://{host}:{given.get('port', 8080)}"}
        return given

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must begin with http:// or https:// and name a host")
        if parts.query or parts.fragment or parts.username:
            raise ValueError("must be a plain address without user, query or fragment")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _safe_together(self) -> Settings:
        if self.keys == self.data or self.keys.is_relative_to(self.data):
            raise ValueError(
                f"the keys ({self.keys}) lie inside the data folder ({self.data}), so whoever "
                "copies the data has the keys too; name another folder with --keys or SALUS_KEYS"
            )
        if self.break_glass_log and self.break_glass_log.is_relative_to(self.data):
            raise ValueError(
                f"the break-glass log ({self.break_glass_log}) lies inside the data folder, whose "
                "disk may be the one that is full; name a file elsewhere with --break-glass-log"
            )
        if self.open and not is_loopback(self.host):
            raise ValueError(
                f"--open serves everybody who can connect, so it listens on a loopback address "
                f"only, not on {self.host}; leave --host away"
            )
        return self

    @model_validator(mode="after")
    def _private_on_the_wire(self) -> Settings:
        """What travels beyond this machine is encrypted, here or by a proxy."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key belong together: name both, or none")
        host, local = urlsplit(self.base_url).hostname or "", is_loopback(self.host)
        if not (local or self.tls or self.behind_proxy):
            raise ValueError(
                f"beyond this machine ({self.host}) only https is served: name --tls-cert and "
                "--tls-key, or say --behind-proxy where a proxy speaks https"
            )
        if _is_everywhere(host):
            raise ValueError(
                f"{self.host} is every address of this machine and no place to link to: name the "
                "one that clients use with --base-url"
            )
        if not self.open and not self.base_url.startswith("https://") and not is_loopback(host):
            raise ValueError(
                f"tokens travel over https only, except on this machine: begin --base-url with "
                f"https://, not {self.base_url}"
            )
        if self.tls and not self.base_url.startswith("https://"):
            raise ValueError(
                f"with --tls-cert only https is served: begin --base-url with https://, not "
                f"{self.base_url}"
            )
        if self.trusted_proxy and not self.behind_proxy:
            raise ValueError("--trusted-proxy means something only with --behind-proxy")
        return self


def bracketed(host: str) -> str:
    """A host as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


def _is_everywhere(host: str) -> bool:
    """Whether a host is the address that stands for all."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def read_settings(**options: Any) -> Settings:
    """The settings of this process; options that are None count as not given. SettingsError."""
    _no_unknown_variables(os.environ)
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_explained(error, OPTIONS.intersection(given))) from None


class Variable(NamedTuple):
    """One variable of the environment, as `salus settings` prints it."""

    name: str
    value: str
    default: bool
    meaning: str


def variables(settings: Settings) -> Iterator[Variable]:
    """Every variable with its present value and meaning, limits included."""
    scheme = "https" if settings.tls else "http"
    listening = f"{scheme}://{bracketed(settings.host)}:{settings.port}"
    own = Settings.__annotations__  # before those of keys and log, which stand in base classes
    for name, field in sorted(Settings.model_fields.items(), key=lambda each: each[0] not in own):
        if name != "limits":
            value = getattr(settings, name)
            default = name not in settings.model_fields_set or value == listening
            meaning = f"{field.description}{_choices(field.annotation)}"
            yield Variable(variable(name), _written(value), default, meaning)
    usual = Limits()
    for name, meaning in LIMITS.items():
        value = getattr(settings.limits, name)
        yield Variable(variable("limits", name), str(value), value == getattr(usual, name), meaning)


def _written(value: Any) -> str:
    """A value as its variable takes it."""
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


def _choices(annotation: Any) -> str:
    """The values a setting may have, where they are few."""
    return f" ({' | '.join(get_args(annotation))})" if get_origin(annotation) is Literal else ""


def variable(*names: str) -> str:
    """The variable of a field, or of a field within one."""
    return PREFIX + "_".join(names).upper()


def _no_unknown_variables(environment: Mapping[str, str]) -> None:
    """A misspelt variable would silently leave the default in force. Case does not count: the
    variables are read without regard to it."""
    known = {variable(name) for name in Settings.model_fields if name != "limits"}
    known |= {variable("limits", each.name) for each in fields(Limits)}
    for name in environment:
        spelt = name.upper()
        if spelt.startswith(PREFIX) and spelt not in known | FOREIGN:
            near = get_close_matches(spelt, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting{hint} (`salus settings` lists them)")


def _explained(error: ValidationError, options: Collection[str]) -> str:
    """A sentence for each error, which begins with where the value came from: `options` are the
    settings that the command line gave."""
    lines = []
    for each in error.errors():
        names = [str(part) for part in each["loc"]]
        text = each["msg"].removeprefix("Value error, ")
        if each["type"] in _WRONG:
            text = _WRONG[each["type"]].format(input=each["input"], **each.get("ctx", {}))
        if not names or text.startswith(PREFIX):
            lines.append(text[:1].upper() + text[1:])
        elif names[0] in options:
            lines.append(f"--{names[0].replace('_', '-')} {text}")
        else:
            lines.append(f"{variable(*names)} {text}")
    return "\n".join(lines)
