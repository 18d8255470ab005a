import pytest

from tests.diffusion.tiny_pipelines import PIPELINES, tiny_pipeline
from zreward_core.diffusion.loading import GENERATORS


@pytest.fixture(params=PIPELINES)
def generator(request):
    """A tiny random generator of every supported pipeline class."""
    pipe = tiny_pipeline(request.param)
    return GENERATORS[type(pipe).__name__](pipe)


@pytest.fixture
def z_image():
    """A tiny random Z-Image, for tests that do not depend on the pipeline class."""
    return GENERATORS["ZImagePipeline"](tiny_pipeline("z_image"))
