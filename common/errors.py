"""The errors that reach a person: one line each, and the exit code that goes with it."""


class LocalGDError(Exception):
    """Base of every error that the command line prints as one line instead of a traceback."""

    exit_code = 1


class UserError(LocalGDError):
    """Bad usage, configuration or data: says what was given, what is allowed, and where."""

    exit_code = 2


class NotInstalled(UserError):
    """A package that is not installed is needed for what was asked: says how it is had."""


class RunError(LocalGDError):
    """The run itself failed; the run directory says the rest."""


class NotSeparable(RunError):
    """The data are proved not to be linearly separable, so no max-margin model exists."""


def last_line(text: str) -> str:
    """Return what another process's error says in one line: the last one of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removesuffix("'>") if len(lines) > 1 else text
