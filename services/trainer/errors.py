"""Why a training item fails. Each message names the reason, because the run fails with it."""


class WrongPolicyError(ValueError):
    """The weights about to be trained are not the policy that sampled the pairs. Nothing was trained."""


class NotFiniteError(ArithmeticError):
    """A log-prob or a weight is NaN or infinite. Nothing is published."""


class TrainingDivergedError(NotFiniteError):
    """The optimisation left the finite numbers, in its loss, gradient or weights. Nothing is published."""


class NoPairsError(ValueError):
    """Not one preference pair is left to train on."""


class ModelImportError(ValueError):
    """The run's model cannot be used: `model.path` is missing, broken, or not a causal language model."""


class DeviceError(RuntimeError):
    """The settings ask for devices that this machine does not have."""


class GroupFailedError(RuntimeError):
    """A process of the training group ended without a result; the message names its rank and how it ended."""
