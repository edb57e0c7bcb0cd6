"""Metrics as a test reads them: through the library's own parsers, which refuse what is not well-formed."""

from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Reading:
    samples: tuple[Sample, ...]

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def value(self, name: str, **labels: str) -> float:
        """The one sample of this name and exactly these labels."""
        (found,) = [s.value for s in self.samples if (s.name, s.labels) == (name, labels)]
        return float(found)

    def labels(self, name: str) -> list[dict[str, str]]:
        return [sample.labels for sample in self.samples if sample.name == name]


def read(text: bytes) -> Reading:
    """A text in the format that it says it is."""
    parse = openmetrics if text.endswith(b"# EOF\n") else prometheus
    return Reading(tuple(sample for family in parse(text.decode()) for sample in family.samples))
