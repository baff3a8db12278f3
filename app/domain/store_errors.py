"""The leaves of the error tree that the store of artifacts ends in."""

from app.domain.errors import UnavailableError


class StoreUnavailableError(UnavailableError):
    """The store of artifacts does not answer, or refuses."""

    slug = "store-unavailable"
    title = "The store of artifacts does not answer"
    remedy = (
        "Wait until the store answers again, then send the request again; the operator looks at `LEANFUSE_STORE_URL`, "
        "its credentials and the bucket."
    )
