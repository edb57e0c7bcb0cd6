"""What is told of webhooks."""

from protocol.authority import Authority, Scope
from tests.web.reading import read
from web.metrics import Metrics, WebhookFigures
from web.webhooks import WebhookStatistics

FOUND = WebhookStatistics(hooks=9, active=7, failing=3, delivered=50, dead_letters=6)


async def test_each_webhook_is_in_one_state() -> None:
    metrics = Metrics(WebhookFigures(lambda: FOUND).collect)
    found = read((await metrics.text(Authority(scopes=frozenset({Scope.READ})), ""))[0])
    states = {
        state: found.value("enginehouse_webhooks", state=state) for state in ("delivering", "failing", "disabled")
    }
    assert states == {"delivering": 4, "failing": 3, "disabled": 2}
    assert found.value("enginehouse_webhook_delivered") == 50
    assert found.value("enginehouse_webhook_dead_letters") == 6


async def test_who_is_bound_to_pools_is_told_nothing_of_them() -> None:
    bound = Authority(scopes=frozenset({Scope.READ}), pools=frozenset({"a"}))
    assert read((await Metrics(WebhookFigures(lambda: FOUND).collect).text(bound, ""))[0]).samples == ()
