"""Every error that NovaDex raises, as one tree.

::

    NovaDexError
     +- ConfigurationError        a setting, a folder or a server version is wrong
     |   +- KeyUnknownError       a master key that something is encrypted under is not known here
     +- UsageError                a call or a command was made wrongly
     |   +- ValidationError       a value is wrong; names the field
     |   +- NotFoundError         what was asked for does not exist
     |   +- ConflictError         the same key stands for something else already
     |   +- AccessError           the caller may not do this
     |       +- NotAuthenticatedError   no valid session, API key or signature
     |       |   +- SessionEndedError       the session expired or was revoked
     |       |   +- RenewalNeededError      the rights changed: refresh the session
     |       +- ReauthenticationNeededError the last sign-in is too long ago for this action
     |       +- PermissionDeniedError   known, but not allowed
     |       +- SignInOffError          nobody signs in with a wallet here
     +- UnavailableError          a server does not answer; trying again can help
     |   +- OverloadedError       a bounded queue is full
     |   +- RateLimitedError      too many calls in a window of time
     |   +- TimeoutExceededError  a bound on waiting was reached
     +- IntegrityFaultError       records that should agree do not

Each class has a stable ``code`` for programs, a message for people that says what was wrong with which
value, a ``hint`` that says what to do next, and ``retryable``: whether the same call can succeed later.
"""

from __future__ import annotations

from typing import Any, ClassVar


class NovaDexError(Exception):
    """The root: catch this to catch everything that NovaDex raises on purpose."""

    code: ClassVar[str] = "NOVADEX"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.details))

    def as_dict(self) -> dict[str, Any]:
        """The error as a JSON-ready mapping: ``code``, ``message``, ``hint``, ``retryable``, ``details``.

        >>> ValidationError("price must be above 0, got '-1'", field="price").as_dict()["code"]
        'INVALID_VALUE'
        """
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "details": {name: str(value) for name, value in self.details.items()},
        }


def _rebuild(kind: type[NovaDexError], message: str, hint: str | None, details: dict[str, Any]) -> NovaDexError:
    return kind(message, hint=hint, **details)


class ConfigurationError(NovaDexError):
    """A setting, a folder or a server's version is wrong; nothing was started or changed."""

    code = "CONFIGURATION"


class KeyUnknownError(ConfigurationError):
    """Something is encrypted under a master key that this process does not have."""

    code = "KEY_UNKNOWN"


class UsageError(NovaDexError):
    """The call cannot be carried out as it was made."""

    code = "USAGE"


class ValidationError(UsageError):
    """A value is wrong; ``field`` names it."""

    code = "INVALID_VALUE"

    def __init__(self, message: str, *, field: str, hint: str | None = None, **details: Any) -> None:
        super().__init__(message, hint=hint, field=field, **details)
        self.field = field


class NotFoundError(UsageError):
    """What was asked for does not exist."""

    code = "NOT_FOUND"


class ConflictError(UsageError):
    """The id or key is taken by something that differs from what was sent."""

    code = "CONFLICT"


class AccessError(UsageError):
    """The caller may not do this."""

    code = "ACCESS"


class NotAuthenticatedError(AccessError):
    """There is no valid session, API key or signature. It does not say which part was wrong."""

    code = "NOT_AUTHENTICATED"


class SessionEndedError(NotAuthenticatedError):
    """The session expired or was revoked: sign in again."""

    code = "SESSION_ENDED"


class RenewalNeededError(NotAuthenticatedError):
    """The rights of the user changed since the session began: refresh it, and go on with the new token."""

    code = "RENEWAL_NEEDED"


class ReauthenticationNeededError(AccessError):
    """The last sign-in is too long ago for a sensitive action: sign in again."""

    code = "REAUTHENTICATION_NEEDED"


class PermissionDeniedError(AccessError):
    """The caller is known, and may not do this."""

    code = "PERMISSION_DENIED"


class SignInOffError(AccessError):
    """Signing in with a wallet is off at this venue."""

    code = "SIGN_IN_OFF"


class UnavailableError(NovaDexError):
    """A server does not answer; the same call can succeed later."""

    code = "UNAVAILABLE"
    retryable = True


class OverloadedError(UnavailableError):
    """A bounded queue is full: send less, or wait and try again."""

    code = "OVERLOADED"


class RateLimitedError(UnavailableError):
    """Too many calls in a window of time; ``details["retry_after_s"]`` says how long to wait."""

    code = "RATE_LIMITED"


class TimeoutExceededError(UnavailableError):
    """A bound on waiting was reached."""

    code = "TIMEOUT"


class IntegrityFaultError(NovaDexError):
    """Records that must agree do not; somebody has to look."""

    code = "INTEGRITY_FAULT"
