"""Every exception a call may raise, to be caught by reason, by code, or all at once as `WeftError`."""

from weft_client.gen.errors import *  # noqa: F403 - one for each reason of the contracts
from weft_client.kinds import *  # noqa: F403 - one for each code, and what they hold
