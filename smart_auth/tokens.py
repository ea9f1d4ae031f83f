"""What an access token grants: looked up once, then remembered until something of it changes.

https://www.rfc-editor.org/rfc/rfc6750, https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import NamedTuple

from smart_auth import grants, issuing
from smart_auth.authority import Authority, Happening
from smart_auth.bearer import invalid_token
from smart_auth.clients import permitted, profile
from smart_auth.cors import Origins
from smart_auth.errors import OAuthError
from smart_auth.grant import Grant
from smart_auth.keysets import KeySets
from smart_auth.model import (
    MINUTE,
    TOKENS,
    AccessToken,
    Account,
    Client,
    GrantRecord,
    LaunchContext,
)
from smart_auth.records import Transaction, new_secret
from smart_auth.scopes import (
    FHIR_USER,
    OPENID,
    Asked,
    BadScope,
    is_confined,
    read_scope,
    read_scopes,
)
from smart_auth.signing import Signing
from smart_auth.standing import Standing, standing

_ANEW = MINUTE  # how long what was found of a token is gone by
_REMEMBERED = 20_000  # tokens
_NO_CONTEXT = LaunchContext()


def _key(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()


class _Known(NamedTuple):
    """`until`: when to ask again, or when the token expires; `round`: what was remembered in an
    earlier one is asked again."""

    grant: Grant
    until: int
    round: int


class Document(NamedTuple):
    """A public document as it was made at a time, in microseconds."""

    at: int
    content: bytes


class Tokens:
    """Made once of an Authority, whose `changed` is to call `changed` here. Holds what the protocol
    remembers in this process: `signing`, `key_sets`, `origins` and `documents`. `admit` is told of
    a client, as it calls itself, and its address, before what it sent is looked at, and raises
    OAuthError slow_down when they ask too much."""

    def __init__(
        self, authority: Authority, admit: Callable[[str, str], None] = lambda client, address: None
    ) -> None:
        self.authority, self.admit = authority, admit
        self.signing = Signing(authority)
        self.key_sets = KeySets(authority)
        self.origins = Origins(authority)
        self.opened = authority.clock()  # since when the site is as it is
        self.documents: dict[str, Document] = {}
        self._clock = authority.clock
        self._known: dict[bytes, _Known] = {}
        self._of_grant: dict[str, set[bytes]] = {}
        self._round = 0  # grows when everything is to be asked again
        self._changes = 0  # grows with every change, so that no answer of before is remembered

    async def grant(self, token: str, unseen: Callable[[], None] = lambda: None) -> Grant:
        """What a token grants now. Two calls give the same object while nothing of it changed.
        `unseen` is called before the store is asked for a token that was not good before, and may
        raise. OAuthError invalid_token for one that is unknown, expired or ended."""
        grant = self.remembered(token)
        if grant is not None:
            return grant
        key = _key(token)
        known = self._known.get(key)
        if known is None:
            unseen()
        return await self._asked(key, known)

    def remembered(self, token: str) -> Grant | None:
        """What `grant` gives, where nobody has to be asked for it."""
        known = self._known.get(_key(token))
        if known is not None and known.round == self._round and self._clock() < known.until:
            return known.grant
        return None

    def changed(self, grant: str | None) -> None:
        """Go no longer by what is remembered of a grant; None: of any."""
        self._changes += 1
        if grant is None:
            self._round += 1
            self.origins.changed()
            return
        for key in self._of_grant.pop(grant, ()):
            self._known.pop(key, None)

    async def issue(
        self,
        client: Client,
        scopes: str,
        *,
        account: Account | None = None,
        context: LaunchContext = _NO_CONTEXT,
        life: int | None = None,
    ) -> str:
        """A token by the operator's word, for `salus token`: under a grant of its own, with no more
        scopes than the client may have. `life` in microseconds. OAuthError invalid_scope."""
        asked = self._grantable(client, scopes, account, context)
        now = self._clock()
        record = GrantRecord(
            id=new_secret(),
            client=client.id,
            account=account.name if account else None,
            who=account.who if account else None,
            scopes=tuple(each.text for each in asked),
            context=context,
            created=now,
            epoch=account.epoch if account else 0,
        )

        async def work(tx: Transaction) -> issuing.Issued:
            await grants.give(tx, record)
            made = Standing(record, client, account)
            return await issuing.issue(self.authority, tx, made, record.scopes, life=life)

        issued = await self.authority.keeper.transaction(work, write=True)
        await self.authority.audit(
            Happening(
                "token",
                client=client.id,
                account=record.account,
                who=record.who,
                patient=context.patient,
                detail="operator",
            )
        )
        return issued.access

    def _grantable(
        self, client: Client, scopes: str, account: Account | None, context: LaunchContext
    ) -> tuple[Asked, ...]:
        asked = parsed(scopes)
        found = permitted(client, asked)
        if not found or not all(permitted(client, (each,)) for each in asked):
            raise OAuthError("invalid_scope", "The client may not be granted all of these scopes")
        needs = {each.clinical.context for each in found if each.clinical}
        if "patient" in needs and not context.patient:
            raise OAuthError("invalid_scope", "patient/ scopes need a patient: name one")
        if needs & {"patient", "user"} and account is None:
            raise OAuthError("invalid_scope", "patient/ and user/ scopes need a user: name one")
        refuse_ungrantable(self.authority, found)
        return found

    async def _asked(self, key: bytes, known: _Known | None) -> Grant:
        changes, round, now = self._changes, self._round, self._clock()

        async def read(tx: Transaction) -> tuple[AccessToken, Standing] | None:
            token = await TOKENS.read(tx, key.hex())
            if token is None or token.expires <= now:
                return None
            found = await standing(tx, token.grant)
            return (token, found) if found else None

        found = await self.authority.keeper.transaction(read)
        if found is None:
            self._known.pop(key, None)
            raise invalid_token()
        token, stands = found
        made = await self._meaning(token, stands)
        grant = known.grant if known is not None and _same(known.grant, made) else made
        if changes == self._changes:
            self._remember(key, _Known(grant, min(now + _ANEW, token.expires), round))
        return grant

    async def _meaning(self, token: AccessToken, stands: Standing) -> Grant:
        """What a token means for the FHIR server."""
        record, client = stands.record, stands.client
        asked = permitted(client, _readable(token.scopes))
        backend = profile(client).backend or record.account is None
        reach = None if backend else await self.authority.directory.reach(record.who)
        patient = record.context.patient
        if reach is not None and patient not in reach:
            patient = None  # whom the user may see no longer, the app may not either
        scopes = tuple(
            each.clinical
            for each in asked
            if each.clinical and (patient or each.clinical.context != "patient")
        )
        return Grant(
            name=record.who or client.name,
            agent=record.who,
            id=record.id,
            client=client.id,
            scopes=scopes,
            patient=patient,
            reach=frozenset() if backend else reach,
            identity={OPENID, FHIR_USER} <= {each.text for each in asked},
            confined=record.confined or is_confined(record.scopes),
            account=record.account,
        )

    def _remember(self, key: bytes, known: _Known) -> None:
        self._known.pop(key, None)
        self._known[key] = known
        self._of_grant.setdefault(known.grant.id, set()).add(key)
        if len(self._known) > _REMEMBERED:
            oldest = next(iter(self._known))
            self._forget(oldest, self._known.pop(oldest).grant.id)

    def _forget(self, key: bytes, grant: str) -> None:
        keys = self._of_grant.get(grant, set())
        keys.discard(key)
        if not keys:
            self._of_grant.pop(grant, None)


def parsed(scopes: str) -> tuple[Asked, ...]:
    """The scopes of a request. OAuthError invalid_scope for one that cannot be read."""
    try:
        return read_scopes(scopes)
    except BadScope as error:
        raise OAuthError("invalid_scope", str(error)) from None


def refuse_ungrantable(authority: Authority, asked: Iterable[Asked]) -> None:
    """OAuthError invalid_scope when one of the scopes cannot be held against data here."""
    for each in asked:
        problem = authority.directory.ungrantable(each.clinical) if each.clinical else None
        if problem:
            raise OAuthError("invalid_scope", problem)


def _readable(texts: Iterable[str]) -> tuple[Asked, ...]:
    """Scopes that were granted; one that is read no longer grants nothing."""
    found: list[Asked] = []
    for text in texts:
        try:
            each = read_scope(text)
        except BadScope:
            continue
        if each:
            found.append(each)
    return tuple(found)


def _same(one: Grant, other: Grant) -> bool:
    return _fields(one) == _fields(other)


def _fields(
    grant: Grant,
) -> tuple[object, ...]:
    return (
        grant.name,
        grant.agent,
        grant.client,
        grant.scopes,
        grant.patient,
        grant.reach,
        grant.identity,
        grant.confined,
        grant.account,
    )
