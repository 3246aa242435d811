"""What is done to a mesh, and when: a pure function of a seed, so that a run can be had again by its number.

Targets are kinds of parts with a number beside them, not names: which part that is depends on how many there are. A
schedule ends in the same way each time: everything that was frozen is healed, nobody calls any more, queues drain, and
then the books are read.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final


class Target(enum.StrEnum):
    """What a fault is done to."""

    SERVICE = "service"
    WORKER = "worker"
    RELAY = "relay"
    CONTROL_PLANE = "control-plane"
    GATEWAY = "gateway"
    MEMCACHED = "memcached"
    ETCD = "etcd"
    RABBITMQ = "rabbitmq"
    DATABASE = "database"
    """One server process of PostgreSQL, at work for one connection."""
    LEADER = "leader"
    """Whoever leads the databases, the brokers or the registry, where there are several; it is only ever killed."""


class Fault(enum.StrEnum):
    """What is done; the last four end every schedule."""

    KILL = "kill"
    """SIGKILL."""
    END = "end"
    """SIGTERM."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT when the duration is over."""
    HEAL = "heal"
    """Everything runs again."""
    QUIET = "quiet"
    """Nobody calls any more."""
    DRAIN = "drain"
    """Wait until no queue moves any more."""
    READ = "read"
    """Read every book."""


FAULTS: Final = (Fault.KILL, Fault.END, Fault.FREEZE)
ENDING: Final = (Fault.HEAL, Fault.QUIET, Fault.DRAIN, Fault.READ)
#: How often each target is drawn, beside the others.
WEIGHTS: Final[Mapping[Target, int]] = {
    Target.SERVICE: 6,
    Target.WORKER: 4,
    Target.RELAY: 2,
    Target.CONTROL_PLANE: 2,
    Target.GATEWAY: 1,
    Target.MEMCACHED: 2,
    Target.ETCD: 2,
    Target.RABBITMQ: 1,
    Target.DATABASE: 2,
}
#: The same where everything is there threefold.
WEIGHTS_HA: Final[Mapping[Target, int]] = {**WEIGHTS, Target.LEADER: 3}
#: Seconds of calm before the first fault, and between the begin of two.
CALM_S: Final = 3.0
PAUSE_S: Final = (1.0, 6.0)
#: The longest freeze, in seconds; shorter for what there is one of.
FREEZE_S: Final = 8.0
FREEZE_SINGLE_S: Final = 3.0
SINGLE: Final = frozenset({Target.RABBITMQ, Target.DATABASE, Target.RELAY, Target.GATEWAY})
#: A schedule shorter than this has no room for a fault and its healing.
SECONDS_MIN: Final = 15.0
#: Picks are drawn from so many, and taken modulo the parts there are.
PICKS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, so many seconds after the begin."""

    at_s: float
    fault: Fault
    target: Target | None = None
    pick: int = 0
    """Which of the target's parts, modulo how many there are."""
    duration_s: float = 0.0
    """How long it stays frozen."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything that is done in one run."""

    seed: int
    seconds: float
    steps: tuple[Step, ...]
    ha: bool = False

    @property
    def faults(self) -> tuple[Step, ...]:
        """The steps that hurt."""
        return tuple(step for step in self.steps if step.fault in FAULTS)


def make(seed: int, *, seconds: float, ha: bool = False) -> Schedule:
    """The schedule of a seed. The same arguments give the same one. Raises ValueError for too few seconds.

    `ha`: for a mesh that has leaders to lose.
    """
    if not seconds >= SECONDS_MIN:
        raise ValueError(f"a schedule of {seconds:g} s has no room for a fault; give {SECONDS_MIN:g} or more")
    random = Random(seed)
    steps: list[Step] = []
    at_s = CALM_S
    while at_s < seconds - FREEZE_S:
        steps.append(_fault(random, round(at_s, 3), WEIGHTS_HA if ha else WEIGHTS))
        at_s += random.uniform(*PAUSE_S)
    steps += [Step(seconds, fault) for fault in ENDING]
    return Schedule(seed, seconds, tuple(steps), ha)


def _fault(random: Random, at_s: float, weights: Mapping[Target, int]) -> Step:
    target = random.choices(list(weights), weights=list(weights.values()))[0]
    fault = Fault.KILL if target is Target.LEADER else random.choice(FAULTS)
    longest = FREEZE_SINGLE_S if target in SINGLE else FREEZE_S
    duration_s = round(random.uniform(0.5, longest), 3) if fault is Fault.FREEZE else 0.0
    return Step(at_s, fault, target, random.randrange(PICKS), duration_s)
