"""How a command ends: one line that says why, and a code that a script can use."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import AppGroup

from ..errors import ConfigurationError
from ..errors import NotSupported
from ..errors import SessionError
from ..errors import StoreError
from .tables import printable

NOT_DONE, WRONG_USAGE, NO_STORE = 1, 2, 3

_CODES = """
\b
Exit codes:
  0  done
  1  there is no such session, you said no, or check has a warning
  2  wrong usage; also: several handles begin so, the store cannot do
     this, the application is configured wrongly or has no such sessions
  3  the store cannot be reached, or refuses
"""


class Failure(click.ClickException):
    """What goes to standard error, and the exit code."""

    def __init__(self, message: str, exit_code: int, lines: tuple[str, ...] = ()) -> None:
        super().__init__("\n  ".join(map(printable, (message, *lines))))
        self.exit_code = exit_code  # type: ignore[misc]


class Sessions(AppGroup):
    """Whose commands end with one line, also where loading the application is what fails."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, epilog=_CODES, **options)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.epilog = _CODES
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreError as error:
            raise Failure(str(error), NO_STORE) from error
        except (ConfigurationError, NotSupported) as error:
            raise Failure(str(error), WRONG_USAGE) from error
        except SessionError as error:
            raise Failure(str(error), NOT_DONE) from error
