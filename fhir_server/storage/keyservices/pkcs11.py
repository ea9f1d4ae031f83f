"""Keys wrapped inside a PKCS#11 token: the key that wraps is made there and never leaves it.

https://docs.oasis-open.org/pkcs11/pkcs11-curr/v3.0/pkcs11-curr-v3.0.html (AES-GCM)
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from fhir_server.storage.keys import FORMATS, check_format
from fhir_server.storage.keyservices.choice import read_secret
from fhir_server.storage.store import StoreError, Unavailable

try:
    import pkcs11
    from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass
    from pkcs11 import exceptions as refusals
except ModuleNotFoundError:
    raise StoreError(
        "SALUS_KEY_PROVIDER is pkcs11, which needs the package python-pkcs11: install "
        "salus-fhir[pkcs11]"
    ) from None

_FORMAT = FORMATS[
    "pkcs11"
]  # begins what is wrapped here; version of the key, nonce and ciphertext follow
_VERSION = 4  # bytes
_NONCE = 12
_TAG = 16
_BITS = 256

# A key that wraps: it stays, it never leaves, and it does nothing else.
_TEMPLATE = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ENCRYPT: True,
    Attribute.DECRYPT: True,
    Attribute.WRAP: False,
    Attribute.UNWRAP: False,
    Attribute.SIGN: False,
    Attribute.VERIFY: False,
    Attribute.DERIVE: False,
}
_PIN = (
    refusals.PinIncorrect,
    refusals.PinInvalid,
    refusals.PinLenRange,
    refusals.PinLocked,
    refusals.PinExpired,
)
_Work: TypeAlias = tuple[Callable[[], bytes], "Future[bytes]"]


class TokenKeys:
    """A KeyProvider of one AES key in a token, found by its label. Rotation makes a further version
    of it, told apart by CKA_ID. Another thread talks to the token, so that one that hangs holds
    nobody for longer than `timeout_seconds`."""

    def __init__(
        self, module: Path, token: str, key: str, pin_file: Path, *, timeout_seconds: float = 5.0
    ) -> None:
        self.where = f"the PKCS#11 token {token}, key {key}"
        self._module, self._token, self._key, self._pin_file = module, token, key, pin_file
        self._timeout = timeout_seconds
        self._line = _line(module)
        self._session: pkcs11.Session | None = None
        self._refused_pin = ""  # a token locks itself when a wrong one is shown again and again

    def wrap(self, key: bytes, context: bytes) -> bytes:
        def work(session: pkcs11.Session) -> bytes:
            versions = self._versions(session) or {1: self._made(session, 1)}
            latest = max(versions)
            nonce = secrets.token_bytes(_NONCE)
            sealed = _encrypted(versions[latest], key, nonce, context)
            return _FORMAT + latest.to_bytes(_VERSION, "big") + nonce + sealed

        return self._asked(work)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        check_format(wrapped, "pkcs11", self.where)
        body = wrapped[len(_FORMAT) :]
        version = int.from_bytes(body[:_VERSION], "big")
        nonce, sealed = body[_VERSION : _VERSION + _NONCE], body[_VERSION + _NONCE :]
        if len(sealed) < _TAG:
            raise StoreError("A wrapped key is damaged: restore it from a backup")

        def work(session: pkcs11.Session) -> bytes:
            outer = self._versions(session).get(version)
            if outer is None:
                raise StoreError(
                    f"{self.where} has no version {version}, which wrapped this: bring it back "
                    "from the token's backup, or correct SALUS_PKCS11_TOKEN and SALUS_PKCS11_KEY"
                )
            return self._decrypted(outer, sealed, nonce, context)

        return self._asked(work)

    def keep_apart(self, data: Path) -> None:
        """They are in the token."""

    def renew(self) -> str:
        """Make a further version of the key; what is left to do."""

        def work(session: pkcs11.Session) -> bytes:
            latest = max(self._versions(session), default=0)
            self._made(session, latest + 1)
            return latest.to_bytes(_VERSION, "big")

        former = int.from_bytes(self._asked(work), "big")
        return (
            f"The token keeps version {former}. Once no key backup needs it any more, delete the "
            f"secret key labelled {self._key} with id {former:08x} from the token"
        )

    def retire(self) -> None:
        """Its versions are the token's."""

    # --- in the thread that talks to the token -----------------------------------------------

    def _versions(self, session: pkcs11.Session) -> dict[int, Any]:
        asked = {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.LABEL: self._key,
        }
        keys: list[Any] = list(session.get_objects(asked))  # its types know no more than Object
        found = {int.from_bytes(each.id, "big"): each for each in keys}
        for each in found.values():
            if each[Attribute.EXTRACTABLE] or not each[Attribute.SENSITIVE]:
                raise StoreError(
                    f"{self.where} could leave the token: let Salus make its key there (name a "
                    "label that is not taken in SALUS_PKCS11_KEY), or make it sensitive and not "
                    "extractable"
                )
        return found

    def _made(self, session: pkcs11.Session, version: int) -> Any:
        return session.generate_key(
            KeyType.AES,
            _BITS,
            id=version.to_bytes(_VERSION, "big"),
            label=self._key,
            store=True,
            template=_TEMPLATE,
        )

    def _decrypted(self, outer: Any, sealed: bytes, nonce: bytes, context: bytes) -> bytes:
        """Tokens refuse what does not belong with the same error as their own failures: one that
        can still encrypt is well."""
        try:
            return bytes(
                outer.decrypt(
                    sealed,
                    mechanism=Mechanism.AES_GCM,
                    mechanism_param=GCMParams(nonce, context, _TAG * 8),
                )
            )
        except refusals.PKCS11Error:
            _encrypted(outer, b"well", secrets.token_bytes(_NONCE), context)
        raise StoreError(
            f"{self.where} does not open this: it was wrapped for something else, or was damaged "
            "since. Check which keys.db belongs to this token"
        )

    def _opened(self) -> pkcs11.Session:
        if self._session is None:
            pin = read_secret(self._pin_file, "PIN of the token")
            if pin == self._refused_pin:
                raise StoreError(self._wrong_pin())
            token = self._found()
            try:
                self._session = token.open(rw=True, user_pin=pin)
            except refusals.UserAlreadyLoggedIn:  # by another session of this process
                self._session = token.open(rw=True)
            except _PIN:
                self._refused_pin = pin
                raise StoreError(self._wrong_pin()) from None
        return self._session

    def _found(self) -> pkcs11.Token:
        library = pkcs11.lib(str(self._module))
        try:
            return library.get_token(token_label=self._token)
        except refusals.NoSuchToken:  # libraries look for tokens when they start
            library.reinitialize()
            return library.get_token(token_label=self._token)

    def _wrong_pin(self) -> str:
        return (
            f"{self.where} refuses the PIN in {self._pin_file}, which is not tried again before it "
            "changes, so that the token does not lock itself: correct it there"
        )

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except refusals.PKCS11Error:
                return  # it is gone already

    def _done(self, work: Callable[[pkcs11.Session], bytes]) -> bytes:
        """A session does not outlive its token's being taken away: the second try has another."""
        for last in False, True:
            try:
                return work(self._opened())
            except refusals.PKCS11Error as error:
                self._forget()
                if last:
                    raise Unavailable(
                        f"{self.where} does not serve ({type(error).__name__} {error}): connect "
                        "it, or check SALUS_PKCS11_MODULE and SALUS_PKCS11_TOKEN"
                    ) from None
        raise AssertionError("the second try is the last")

    # --- in the thread of who asks -----------------------------------------------------------

    def _asked(self, work: Callable[[pkcs11.Session], bytes]) -> bytes:
        try:
            return self._line.ask(lambda: self._done(work), self._timeout)
        except TimeoutError:
            raise Unavailable(
                f"{self.where} has not answered for {self._timeout:g} s: check it"
            ) from None


class _Line:
    """The thread that talks to a library, of which a process has one, whatever uses it."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="PKCS#11", daemon=True).start()

    def ask(self, work: Callable[[], bytes], seconds: float) -> bytes:
        """What the work returns or raises. TimeoutError."""
        answer: Future[bytes] = Future()
        self._work.put((work, answer))
        try:
            return answer.result(seconds)
        except TimeoutError:
            answer.cancel()
            raise

    def _run(self) -> None:
        while True:
            work, answer = self._work.get()
            if not answer.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            try:
                answer.set_result(work())
            except BaseException as error:  # it belongs to who asked
                answer.set_exception(error)


@cache
def _line(module: Path) -> _Line:
    return _Line()


def _encrypted(outer: Any, plain: bytes, nonce: bytes, context: bytes) -> bytes:
    return bytes(
        outer.encrypt(
            plain,
            mechanism=Mechanism.AES_GCM,
            mechanism_param=GCMParams(nonce, context, _TAG * 8),
        )
    )
