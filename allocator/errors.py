"""The errors that a caller may want to handle; wrong arguments raise `ValueError` instead."""


class FedHQError(Exception):
    """Root of all errors below; catch it to handle whatever fedhq reports."""


class InfeasibleError(FedHQError):
    """No allocation keeps every limit: relax one of those that the message names."""


class SolverError(FedHQError):
    """A solver found no allocation in its limits, or is at fault: raise the limit or change it."""


class DivergedError(FedHQError):
    """Training came to numbers that are not finite: lower the learning rate that is named."""


class WireError(FedHQError):
    """A payload cannot be sent or is damaged or foreign: drop it and count the client as failed."""


class DataError(FedHQError):
    """Stored data cannot be written or read: the message names the file and the mend."""


class CheckpointError(FedHQError):
    """A checkpoint cannot be written or read: the message names the file and the mend."""
