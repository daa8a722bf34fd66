"""The one error for mistakes that a user can mend."""

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake in what the user gave: the message says what was got, what was expected and what to change.

    Commands print the message alone and exit with a status that is not 0; a traceback is for programmers' mistakes.
    """
