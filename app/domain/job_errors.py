"""The leaves of the error tree that jobs end in."""

from app.domain.errors import JobError


class TrainingDivergedError(JobError):
    """The loss became infinite or not a number."""

    slug = "training-diverged"
    title = "The training diverged"
    remedy = (
        "Divide `/training/optimizer/learning_rate` by ten, or set `/training/global_clipnorm` to 1; "
        "see that the data has no outliers."
    )


class ExportMismatchError(JobError):
    """The exported graph does not compute what the trained model computes."""

    slug = "export-mismatch"
    title = "The exported graph differs from the model"
    remedy = "Report it with the job's spec: the service refused to serve a graph that computes something else."


class DependencyFailedError(JobError):
    """A job that this one needs failed or was cancelled."""

    slug = "dependency-failed"
    title = "A job that this one depends on did not succeed"
    remedy = (
        "Read the error of the job that `detail` names, mend it, and retry this job: members that succeeded are not "
        "trained again."
    )


class PoisonJobError(JobError):
    """The job's process died several times in a row without progress."""

    slug = "poison-job"
    title = "The job kills its process again and again"
    remedy = "Read the job's last `log` events. Give the worker more memory, or make the model or the batch smaller."


class DeadlineExceededError(JobError):
    """The job ran longer than it may."""

    slug = "deadline-exceeded"
    title = "The job ran out of time"
    remedy = "Raise `max_runtime_seconds`, or train fewer epochs or a smaller model."


class OutOfMemoryError(JobError):
    """The trainer needed more memory than it may use."""

    slug = "job-out-of-memory"
    title = "The job ran out of memory"
    remedy = "Lower `training/batch_size`, choose a smaller model, or run it on a worker with more memory."


class MethodNotApplicableError(JobError):
    """The method cannot be applied to this parent: told when the job is submitted, where arithmetic can tell."""

    slug = "method-not-applicable"
    title = "The method cannot be applied here"
    remedy = (
        "Choose another parent or other settings, as `detail` and the hint tell; docs/jobs.md says what each method "
        "needs."
    )
    code = 422


class LeakedRowsError(JobError):
    """A row stands in two of the data set's row sets, so that nothing measured on it could be believed."""

    slug = "leaked-rows"
    title = "The row sets are not disjoint"
    remedy = "Remove rows that stand in two sets, or upload the file with `group` naming what must stay together."


class CheckpointIncompatibleError(JobError):
    """A checkpoint was written by another training than the one that should go on from it."""

    slug = "checkpoint-incompatible"
    title = "The checkpoint belongs to another training"
    remedy = "Submit the job again: it starts from the beginning."


class BrokenProductError(JobError):
    """What the trainer handed over is not what it says: a fault of the machine or of Leanfuse."""

    slug = "broken-product"
    title = "The trainer's files are damaged"
    remedy = "It is tried again by itself. If it fails for good, see that the worker's disk is sound and not full."
    retryable = True


class NoGainError(JobError):
    """A fusion that had to beat its best member was not shown to do so."""

    slug = "no-gain"
    title = "The fusion is not shown better than its best member"
    remedy = (
        "Use the best member as it is, fuse members that differ more, or train them longer; the report has the figures."
    )
