"""``python -m bottega.launch JOB_FILE``: run the workload whose directory holds the file, only once."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from pathlib import Path

from bottega.launch.directory import Result, WorkloadDirectory
from bottega.launch.run import Run


def main(job_file: Path) -> int:
    directory = WorkloadDirectory(job_file.resolve().parent)
    # The claim tells the backend whom to signal; what comes before the handler stands has to wait for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if not directory.claim():
        return 0
    try:
        job = directory.job()
        assert job is not None, f"no job file in {directory.root}"
        result = Run(directory, job).run()
    except Exception as problem:  # whatever went wrong in here must reach the user as the workload's end
        traceback.print_exc()
        result = Result(
            state="failed",
            exit_code=None,
            reason=f"the platform's own launcher failed: {type(problem).__name__}: {problem}",
            finished_at=time.time_ns() // 1_000_000,
        )
    directory.write_result(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
