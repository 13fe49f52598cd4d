"""The service against its own description: whatever schemathesis thinks of, every answer is as documented."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from metricad.service import app, decoding
from tests.service.test_app import TOKEN, FakeInspector, Server
from tests.service.test_decoding import FILES

schemathesis = pytest.importorskip("schemathesis")

# What its generators know nothing of: bytes that are an image. Any others may be refused.
schemathesis.openapi.media_type(
    decoding.MEDIA_TYPES[0], st.sampled_from(sorted(FILES.values())), aliases=decoding.MEDIA_TYPES[1:]
)
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}


schema = schemathesis.openapi.from_dict(app.app({"part": FakeInspector()}, token=TOKEN).openapi())


@pytest.fixture(scope="module")
def address():
    """Where the service that gives this description runs."""
    with Server(token=TOKEN) as server:
        yield "http://{}:{}".format(*server.address)


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_documented(case, address):
    case.call_and_validate(base_url=address, headers=AUTHORISED)
