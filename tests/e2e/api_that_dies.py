"""An API process that is killed between the commit of a job and the hint that would wake a worker."""

import os
import signal
import sys

import uvicorn

import app.main
from app.queue import NullHinter
from app.settings import Settings


class DeadlyHinter(NullHinter):
    """Die where the hint would be sent."""

    def hint(self, job_id: str) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().hint(job_id)


if __name__ == "__main__":
    app.main.make_hinter = lambda _settings: DeadlyHinter()
    uvicorn.run(app.main.create_app(Settings()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
