"""What every script that refuses calls does in the same way. It stands first among a filter's parts."""

from typing import Final

from gateway.envoy import names
from gateway.envoy.script import Module

MODULE: Final = Module("checks", script="checks.lua", constants={"REASON": names.REASON})
