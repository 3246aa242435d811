"""What the supervisor can refuse or fail at. Each message says what is wrong, where, and what to do about it.

SupervisorError
  ConfigError       the user's settings or machine: nothing has been started (exit 2)
  StartError        a part did not become ready: everything started has been stopped again (exit 1)
  NotRunningError   there is no mesh to talk to (exit 3)
  RefusedError      the daemon understood the request and says no (exit 1)
"""


class SupervisorError(Exception):
    """Anything the supervisor reports to its user."""


class ConfigError(SupervisorError):
    """A setting, a file or the machine is not usable as it is; nothing was started."""


class NotRunningError(SupervisorError):
    """No mesh runs from this data directory."""


class RefusedError(SupervisorError):
    """A request the running mesh cannot obey, such as a name it does not know."""


class StartError(SupervisorError):
    """A part did not become ready; `log` holds the last lines it wrote."""

    def __init__(self, part: str, reason: str, *, log: tuple[str, ...] = ()) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason
        self.log = log
