"""`zreward viewer`: the page of test and pool items, from the results of `evaluate`."""

from pathlib import Path

from zreward_core.evaluation.viewer import write_viewer
from zreward_core.images import ImageStore
from zreward_core.runtime.progress import track

IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


def write() -> Path:
    """Write the page, for results that DVC restored from its cache.

    Returns:
        The page.

    Raises:
        UserError: `evaluate` has not run, or images are missing.
    """
    return write_viewer(ImageStore(*IMAGES), track)
