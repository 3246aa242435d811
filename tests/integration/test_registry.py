"""The registry over the real etcd: the same suite that the unit tests run over the fake one."""

from tests.unit.lb.registry_suite import *  # noqa: F403
from tests.unit.lb.registry_suite import _empty  # noqa: F401 - a fixture for every test
