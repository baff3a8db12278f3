"""The leaves of the error tree that jobs end in."""

from app.domain.errors import JobError


class TrainingDivergedError(JobError):
    """The loss became infinite or not a number."""

    slug = "training-diverged"
    title = "The training diverged"


class ExportMismatchError(JobError):
    """The exported graph does not compute what the trained model computes."""

    slug = "export-mismatch"
    title = "The exported graph differs from the model"


class DependencyFailedError(JobError):
    """A job that this one needs failed or was cancelled."""

    slug = "dependency-failed"
    title = "A job that this one depends on did not succeed"


class PoisonJobError(JobError):
    """The job's process died several times in a row without progress."""

    slug = "poison-job"
    title = "The job kills its process again and again"


class DeadlineExceededError(JobError):
    """The job ran longer than it may."""

    slug = "deadline-exceeded"
    title = "The job ran out of time"


class OutOfMemoryError(JobError):
    """The trainer needed more memory than it may use."""

    slug = "job-out-of-memory"
    title = "The job ran out of memory"


class MethodNotApplicableError(JobError):
    """The method cannot be applied to this parent: told when the job is submitted, where arithmetic can tell."""

    slug = "method-not-applicable"
    title = "The method cannot be applied here"
    code = 422


class LeakedRowsError(JobError):
    """A row stands in two of the data set's row sets, so that nothing measured on it could be believed."""

    slug = "leaked-rows"
    title = "The row sets are not disjoint"


class CheckpointIncompatibleError(JobError):
    """A checkpoint was written by another training than the one that should go on from it."""

    slug = "checkpoint-incompatible"
    title = "The checkpoint belongs to another training"


class BrokenProductError(JobError):
    """What the trainer handed over is not what it says: a fault of the machine or of Leanfuse."""

    slug = "broken-product"
    title = "The trainer's files are damaged"
    retryable = True


class NoGainError(JobError):
    """A fusion that had to beat its best member was not shown to do so."""

    slug = "no-gain"
    title = "The fusion is not shown better than its best member"
