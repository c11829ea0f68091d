"""Where a study runs on this machine: what there is, what it needs, what follows."""

from fewshot_automl.executors import usable_cores
from fewshot_automl.policy import Threads
from fewshot_automl.trial import TrialContext, step_seconds


def measured_threads(context: TrialContext, backbone: str) -> Threads:
    """Return what the cores are worth to a backbone now, in about a second."""
    cores = usable_cores()
    every, alone, side_by_side = step_seconds(context, backbone, cores)
    return Threads(speed_up=alone / every, capacity=alone / side_by_side)
