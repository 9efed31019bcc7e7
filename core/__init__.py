"""What every stage shares: pure domain values (`core.domain`) and the Kafka runtime (`core.runtime`)."""
